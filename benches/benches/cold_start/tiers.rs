//! `cold_start/<tier>/<guest>` and `phase/<phase>/<guest>`.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode};
use runtime_pool::{Phase, Tier};

use crate::{
    node::{Candidate, Node, Start, candidates},
    report_skipped,
};

/// Larger guests take seconds to compile, and are skipped by default.
const QUICKLY_COMPILED_BYTES: u64 = 1 << 20;
/// If this variable is set, all guests are compiled.
const FROZEN_ALL: &str = "MAYFLY_BENCH_FROZEN_ALL";

/// A part of the time of a start.
struct Part {
    name: &'static str,
    /// The tier to start from: one whose starts have this part.
    tier: Tier,
    of: fn(&Start) -> Duration,
}

const PARTS: [Part; 5] = [
    Part { name: "load", tier: Tier::Cold, of: |start| start.phase(Phase::Load) },
    Part { name: "link", tier: Tier::Cold, of: |start| start.phase(Phase::Link) },
    Part { name: "instantiate", tier: Tier::Loaded, of: |start| start.phase(Phase::Instantiate) },
    Part { name: "guest", tier: Tier::Loaded, of: |start| start.phase(Phase::Guest) },
    Part { name: "rest", tier: Tier::Loaded, of: Start::rest },
];

pub(crate) fn bench(criterion: &mut Criterion) {
    let (node, guests) = (Node::new(), candidates());
    frozen(criterion, &node, &guests);
    cold(criterion, &node, &guests);
    loaded(criterion, &node, &guests);
    warm(criterion, &node, &guests);
    phases(criterion, &node, &guests);
}

fn frozen(criterion: &mut Criterion, node: &Node, guests: &[Candidate]) {
    let all = std::env::var_os(FROZEN_ALL).is_some();
    let mut group = criterion.benchmark_group("cold_start");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
    for guest in guests {
        if !all && guest.bytes > QUICKLY_COMPILED_BYTES {
            report_skipped(&format!("frozen {}", guest.name), &format!("slow; {FROZEN_ALL}=1"));
            continue;
        }
        group.bench_function(BenchmarkId::new("frozen", guest.name), |bencher| {
            node.prepare(guest);
            bencher.to_async(&node.runtime).iter_custom(async |count| {
                let mut took = Duration::ZERO;
                for _ in 0..count {
                    took += node.start_from(Tier::Frozen, guest).await.total;
                }
                took
            });
        });
    }
    group.finish();
}

fn cold(criterion: &mut Criterion, node: &Node, guests: &[Candidate]) {
    let mut group = criterion.benchmark_group("cold_start");
    group.sample_size(30).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(2));
    for guest in guests {
        group.bench_function(BenchmarkId::new("cold", guest.name), |bencher| {
            node.prepare(guest);
            bencher.to_async(&node.runtime).iter_custom(async |count| {
                let mut took = Duration::ZERO;
                for _ in 0..count {
                    took += node.start_from(Tier::Cold, guest).await.total;
                }
                took
            });
        });
    }
    group.finish();
}

fn loaded(criterion: &mut Criterion, node: &Node, guests: &[Candidate]) {
    let mut group = criterion.benchmark_group("cold_start");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for guest in guests {
        group.bench_function(BenchmarkId::new("loaded", guest.name), |bencher| {
            node.prepare(guest);
            bencher.to_async(&node.runtime).iter(|| node.start_from(Tier::Loaded, guest));
        });
    }
    group.finish();
}

fn warm(criterion: &mut Criterion, node: &Node, guests: &[Candidate]) {
    let mut group = criterion.benchmark_group("cold_start");
    group.sample_size(30).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    for guest in guests {
        group.bench_function(BenchmarkId::new("warm", guest.name), |bencher| {
            node.prepare(guest);
            bencher.to_async(&node.runtime).iter_custom(async |count| {
                let mut took = Duration::ZERO;
                for _ in 0..count {
                    took += node.start_from(Tier::Warm, guest).await.total;
                }
                took
            });
        });
    }
    group.finish();
}

fn phases(criterion: &mut Criterion, node: &Node, guests: &[Candidate]) {
    let mut group = criterion.benchmark_group("phase");
    group.sample_size(30).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    for part in PARTS {
        for guest in guests {
            group.bench_function(BenchmarkId::new(part.name, guest.name), |bencher| {
                node.prepare(guest);
                bencher.to_async(&node.runtime).iter_custom(async |count| {
                    let mut took = Duration::ZERO;
                    for _ in 0..count {
                        took += (part.of)(&node.start_from(part.tier, guest).await);
                    }
                    took
                });
            });
        }
    }
    group.finish();
}
