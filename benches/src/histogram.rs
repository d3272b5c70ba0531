//! A histogram of latencies. Each bucket is narrower than 2 % of its values.

use std::time::Duration;

/// Buckets per power of two.
const STEPS: usize = 64;
/// Powers of two, from the one whose buckets are a nanosecond wide to 2^40 ns, which is 18 minutes.
const POWERS: usize = 34;

/// Counts of durations, log-linear: 64 buckets for each power of two.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * (POWERS + 1)], total: 0 }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: Duration) {
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        let index = bucket(nanos).min(self.counts.len() - 1);
        self.counts[index] += 1;
        self.total += 1;
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.total += other.total;
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// The number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The quantile for a share such as 0.5, the median, in microseconds. Zero if the histogram is
    /// empty.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> f64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_ns(index) as f64 / 1_000.0;
            }
        }
        0.0
    }
}

fn bucket(nanos: u64) -> usize {
    let steps = STEPS as u64;
    if nanos < steps {
        return nanos as usize;
    }
    let power = nanos.ilog2() - steps.ilog2();
    // In 64..128: the seven leading bits of the value.
    let step = nanos >> power;
    (u64::from(power) * steps + step) as usize
}

/// The largest value that falls into a bucket.
fn upper_ns(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let power = index / STEPS - 1;
    let step = (index % STEPS + STEPS) as u64;
    ((step + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_falls_into_a_bucket_that_ends_close_above_it() {
        for nanos in [0, 1, 63, 64, 65, 127, 128, 129, 1_000, 123_456, 9_999_999, 1 << 39] {
            let upper = upper_ns(bucket(nanos));
            assert!(upper >= nanos && upper <= nanos + nanos / 50 + 1, "{nanos}: {upper}");
            assert_eq!(bucket(upper), bucket(nanos));
            assert_eq!(bucket(upper + 1), bucket(nanos) + 1);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::default();
        for micros in 1..=1_000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1_000.0)] {
            let found = histogram.quantile_us(share);
            assert!((found / expected - 1.0).abs() < 0.02, "{share}: {found}");
        }
        assert_eq!(Histogram::default().quantile_us(0.5), 0.0);
    }

    #[test]
    fn a_value_above_the_last_bucket_is_counted() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_hours(10));
        assert_eq!(histogram.count(), 1);
    }
}
