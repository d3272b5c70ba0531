//! The distribution of samples over time.
//!
//! A disturbance of the machine lasts longer than one sample, so neighbouring samples resemble each
//! other more than distant ones do. A measurement therefore has rounds, and each round has samples
//! of every row: a disturbance affects all rows alike. The median of a round is one observation;
//! intervals and comparisons are computed from observations.

use std::time::Duration;

use super::statistics::OBSERVATIONS_MIN;

/// Rounds of a measurement. With so many, the interval of the median leaves out ten observations at
/// each end.
const ROUNDS: usize = 30;

/// The size of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    rounds: usize,
    samples_per_round: usize,
    time: Duration,
}

/// The samples and the time of one row so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
}

impl Plan {
    /// At most `samples` of each row, in about `time`.
    pub(crate) fn new(samples: usize, time: Duration) -> Self {
        let rounds = samples.clamp(OBSERVATIONS_MIN, ROUNDS);
        Self { rounds, samples_per_round: samples.div_ceil(rounds), time }
    }

    /// The number of rounds.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds
    }

    /// Whether a row has samples in the next round. Slow rows stop early, but not before they have
    /// enough observations for an interval.
    pub(crate) fn goes_on(&self, used: Used) -> bool {
        used.rounds < OBSERVATIONS_MIN || (used.rounds < self.rounds && used.time < self.time)
    }

    /// Whether a row takes another sample in this round.
    pub(crate) fn another(&self, samples: usize, took: Duration) -> bool {
        let time = self.time / u32::try_from(self.rounds).unwrap_or(u32::MAX);
        samples == 0 || (samples < self.samples_per_round && took < time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn samples_are_spread_over_the_rounds() {
        let plan = Plan::new(3_000, SECOND);
        assert_eq!((plan.rounds, plan.samples_per_round), (ROUNDS, 100));
        let few = Plan::new(7, SECOND);
        assert_eq!((few.rounds, few.samples_per_round), (7, 1));
    }

    #[test]
    fn a_slow_row_stops_when_its_time_is_over_but_not_too_early() {
        let plan = Plan::new(3_000, SECOND);
        let used = |rounds, time| Used { rounds, time };
        assert!(plan.goes_on(used(5, 10 * SECOND)));
        assert!(!plan.goes_on(used(6, 10 * SECOND)));
        assert!(plan.goes_on(used(29, SECOND / 2)));
        assert!(!plan.goes_on(used(30, SECOND / 2)));
    }

    #[test]
    fn a_round_has_a_sample_at_least_and_ends_in_time() {
        let plan = Plan::new(3_000, 3 * SECOND);
        assert!(plan.another(0, SECOND));
        assert!(plan.another(1, SECOND / 20));
        assert!(!plan.another(1, SECOND / 5));
        assert!(!plan.another(100, Duration::ZERO));
    }
}
