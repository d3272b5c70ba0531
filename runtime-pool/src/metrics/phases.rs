//! The histograms of the phases.
//!
//! Each invocation observes three or more of them. Threads that write to the same cache lines
//! would slow each other down by more than the observations cost, so each thread has its own
//! shard. A scrape adds the shards up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use prometheus::{
    core::{Collector, Desc},
    proto,
};

use crate::metrics::start::{Phase, Start, Tier};

const NAME: &str = "mayfly_phase_seconds";
const HELP: &str = "Phases of invocations up to the head of the response, by tier of their start";
/// Upper bounds in nanoseconds: fine below a millisecond, because that is where
/// starts differ.
const BOUNDS: [u64; 17] = [
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    200_000_000,
    1_000_000_000,
    5_000_000_000,
    30_000_000_000,
];

/// One histogram for each phase and tier.
#[derive(Clone, Debug)]
pub(crate) struct PhaseHistograms(Arc<Shards>);

#[derive(Debug)]
struct Shards {
    desc: Desc,
    shards: Box<[Shard]>,
}

/// One thread's share. Aligned to two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([[PhaseHistogram; Phase::ALL.len()]; Tier::ALL.len()]);

#[derive(Debug, Default)]
struct PhaseHistogram {
    /// Observations up to each bound, and those beyond the last.
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

thread_local! {
    /// Which shard a thread writes to.
    static THREAD: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Relaxed)
    };
}

impl PhaseHistograms {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let labels = vec!["phase".to_owned(), "start".to_owned()];
        let desc = Desc::new(NAME.into(), HELP.into(), labels, Default::default())?;
        // Further threads share shards, which is slower but still correct.
        let shards = 2 * thread::available_parallelism().map_or(1, usize::from);
        Ok(Self(Arc::new(Shards { desc, shards: (0..shards).map(|_| Shard::default()).collect() })))
    }

    /// Counts one invocation's phases.
    pub(crate) fn observe(&self, start: &Start) {
        let shard = THREAD.with(|thread| &self.0.shards[thread % self.0.shards.len()]);
        for (phase, took) in start.phases.iter() {
            shard.0[start.tier as usize][phase as usize].observe(took);
        }
    }

    /// Observations of one phase, over all tiers.
    pub(crate) fn count(&self, phase: Phase) -> u64 {
        let tiers = self.0.shards.iter().flat_map(|shard| &shard.0);
        let counts = tiers.flat_map(|tier| &tier[phase as usize].counts);
        counts.map(|count| count.load(Relaxed)).sum()
    }

    fn metric(&self, tier: Tier, phase: Phase) -> Option<proto::Metric> {
        let series = || self.0.shards.iter().map(|shard| &shard.0[tier as usize][phase as usize]);
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BOUNDS.len());
        for (i, bound) in BOUNDS.iter().enumerate() {
            count += series().map(|series| series.counts[i].load(Relaxed)).sum::<u64>();
            let mut bucket = proto::Bucket::default();
            bucket.set_cumulative_count(count);
            bucket.set_upper_bound(seconds(*bound));
            buckets.push(bucket);
        }
        count += series().map(|series| series.counts[BOUNDS.len()].load(Relaxed)).sum::<u64>();
        if count == 0 {
            // Most phases never occur in most tiers.
            return None;
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_count(count);
        histogram.set_sample_sum(seconds(series().map(|series| series.sum_ns.load(Relaxed)).sum()));
        histogram.set_bucket(buckets);
        let mut metric = proto::Metric::from_label(vec![
            label("phase", phase.as_str()),
            label("start", tier.as_str()),
        ]);
        metric.set_histogram(histogram);
        Some(metric)
    }
}

impl PhaseHistogram {
    fn observe(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < ns);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }
}

impl Collector for PhaseHistograms {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut family = proto::MetricFamily::default();
        family.set_name(NAME.into());
        family.set_help(HELP.into());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        let of_tier = |tier| Phase::ALL.into_iter().filter_map(move |p| self.metric(tier, p));
        family.set_metric(Tier::ALL.into_iter().flat_map(of_tier).collect());
        vec![family]
    }
}

fn label(name: &str, value: &str) -> proto::LabelPair {
    let mut label = proto::LabelPair::default();
    label.set_name(name.into());
    label.set_value(value.into());
    label
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_of_several_threads_are_added_up() {
        let histograms = PhaseHistograms::new().unwrap();
        let mut start = Start::resident();
        start.phases.set(Phase::Guest, Duration::from_micros(5));
        start.phases.set(Phase::Total, Duration::from_secs(60));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|_| histograms.observe(&start)));
            }
        });
        let guest = histograms.metric(Tier::Loaded, Phase::Guest).unwrap();
        let guest = guest.get_histogram();
        assert_eq!(guest.get_sample_count(), 8_000);
        assert!((guest.get_sample_sum() - 0.04).abs() < 1e-9);
        let counts: Vec<u64> = guest.get_bucket().iter().map(|b| b.cumulative_count()).collect();
        assert_eq!(counts[..3], [0, 8_000, 8_000], "a bound belongs to its own bucket");
        let total = histograms.metric(Tier::Loaded, Phase::Total).unwrap();
        let last = total.get_histogram().get_bucket().last().unwrap().cumulative_count();
        assert_eq!((last, total.get_histogram().get_sample_count()), (0, 8_000));
        assert!(histograms.metric(Tier::Warm, Phase::Guest).is_none());
    }
}
