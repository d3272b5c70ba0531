//! What it costs to find a route among ten thousand, and to make their table anew.
//!
//! `cargo bench --workspace --bench routes`. The last line is the 99th percentile of single look-ups,
//! the reading of the clock included.

#![expect(clippy::print_stdout, reason = "this is what the program is for")]

use std::{hint::black_box, time::Instant};

use criterion::Criterion;
use gateway::MeasuredRoutes;
use gateway_api::{RouteSpec, StaticAnswer};

/// Routes, a tenth of them at each of ten hosts.
const ROUTES: usize = 10_000;
const SINGLE_LOOK_UPS: usize = 1_000_000;

fn specs() -> Vec<RouteSpec> {
    let spec = |index: usize| {
        let path = match index % 3 {
            0 => format!("/api/v1/service-{index}/items"),
            1 => format!("/api/v1/service-{index}/items/:id"),
            _ => format!("/files/{index}/*rest"),
        };
        RouteSpec {
            host: Some(format!("host-{}.example.com", index % 10)),
            path,
            answer: Some(StaticAnswer {
                status: 204,
                headers: Default::default(),
                body: String::new(),
            }),
            ..RouteSpec::default()
        }
    };
    (0..ROUTES).map(spec).collect()
}

/// A request for each route.
fn requests() -> Vec<(String, String)> {
    let request = |index: usize| {
        let path = match index % 3 {
            0 => format!("/api/v1/service-{index}/items"),
            1 => format!("/api/v1/service-{index}/items/4711"),
            _ => format!("/files/{index}/a/b/c"),
        };
        (format!("host-{}.example.com", index % 10), path)
    };
    (0..ROUTES).map(request).collect()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (specs, requests) = (specs(), requests());
    let mut routes = MeasuredRoutes::new(&specs).expect("they are valid");
    assert!(requests.iter().all(|(host, path)| routes.finds(host, path)));
    let mut group = criterion.benchmark_group("routes");
    let mut next = requests.iter().cycle();
    group.bench_function("find one of 10,000", |bencher| {
        bencher.iter(|| {
            let (host, path) = next.next().expect("it has no end");
            black_box(routes.finds(host, path))
        });
    });
    group.bench_function("find none of 10,000", |bencher| {
        bencher.iter(|| black_box(routes.finds("host-1.example.com", "/api/v1/none/items")));
    });
    group.sample_size(10);
    group.bench_function("make the table of 10,000", |bencher| bencher.iter(|| routes.rebuild()));
    group.finish();
    criterion.final_summary();

    let single = requests.iter().cycle().take(SINGLE_LOOK_UPS).map(|(host, path)| {
        let begun = Instant::now();
        black_box(routes.finds(host, path));
        begun.elapsed().as_nanos()
    });
    let mut times: Vec<u128> = single.collect();
    times.sort_unstable();
    let (p50, p99) = (times[SINGLE_LOOK_UPS / 2], times[SINGLE_LOOK_UPS / 100 * 99]);
    println!("single look-ups: p50 {p50} ns, p99 {p99} ns");
}
