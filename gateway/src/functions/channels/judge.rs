//! Is the candidate of a canary worse than the revision that it is to replace?
//!
//! Three questions, each answered by a one-sided test at the level [`LEVEL`], and only a difference that
//! is also large enough to matter counts:
//!
//! - errors, and cold starts: Fisher's exact test of two proportions. It holds for counts of any size,
//!   also for no errors at all.
//! - latency of answers that were neither errors nor cold starts: the test of Mann and Whitney on a
//!   histogram, whose ties it takes into account. It assumes nothing of the distribution.
//!
//! Each step is judged once, when both have enough requests. Looking again and again until a test says
//! what it says by chance once in a thousand would find that sooner or later. But callers should not have
//! to pay for a candidate that clearly fails until a step is full: at each quarter before, errors alone are
//! looked at, at the stricter level [`EARLY_LEVEL`].

use std::{f64::consts::PI, time::Duration};

use serde::{Deserialize, Serialize};

/// How often, at most, a test says "worse" of an equal candidate. With three tests in each of three
/// steps, and the early looks, at most one percent of equal candidates are rolled back.
pub(crate) const LEVEL: f64 = 0.001;
/// The level of the look at a quarter of a step: three of them in each of three steps add 0.09 percent.
const EARLY_LEVEL: f64 = 0.0001;
/// Differences of shares that matter: half a percent more errors, five percent more cold starts.
const ERROR_MARGIN: f64 = 0.005;
const COLD_MARGIN: f64 = 0.05;
/// The factor between typical latencies that matters; and where they were not measured at the same time,
/// so that other things may have changed.
const LATENCY_MARGIN: f64 = 1.1;
const LATER_LATENCY_MARGIN: f64 = 2.0;
/// Buckets for each doubling of the latency: each is 19 percent wide.
const PER_OCTAVE: u32 = 4;
/// Buckets from 1 µs to 2^30 µs, which is 18 minutes.
pub(crate) const BUCKETS: usize = (30 * PER_OCTAVE) as usize;

/// What one of the two revisions has shown in a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Observed {
    pub(crate) requests: u64,
    /// Answers with a status of 500 or more, and calls that failed by the function's own fault.
    pub(crate) errors: u64,
    /// Calls whose function had to be loaded first.
    pub(crate) cold: u64,
    /// The other calls, by the bucket of their latency. What is missing at the end is zero.
    pub(crate) latencies: Vec<u64>,
}

/// The bucket of a latency.
pub(crate) fn bucket(latency: Duration) -> usize {
    let us = latency.as_secs_f64() * 1e6;
    let bucket = (us.max(1.0).log2() * f64::from(PER_OCTAVE)) as usize;
    bucket.min(BUCKETS - 1)
}

/// The middle of a bucket, in milliseconds.
fn middle_ms(bucket: usize) -> f64 {
    ((bucket as f64 + 0.5) / f64::from(PER_OCTAVE)).exp2() / 1e3
}

impl Observed {
    /// The latency that this share of the calls did not exceed, in milliseconds. Zero without calls.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = (self.measured() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = self.latencies.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(0.0, middle_ms)
    }

    /// The calls whose latency counts.
    fn measured(&self) -> u64 {
        self.latencies.iter().sum()
    }

    /// The geometric mean of the latencies, in milliseconds.
    fn typical_ms(&self) -> f64 {
        let logs = self.latencies.iter().enumerate();
        let sum: f64 = logs.map(|(bucket, count)| *count as f64 * middle_ms(bucket).ln()).sum();
        match self.measured() {
            0 => 0.0,
            measured => (sum / measured as f64).exp(),
        }
    }

    fn share(&self, part: u64) -> f64 {
        part as f64 / (self.requests as f64).max(1.0)
    }
}

/// When the old revision was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    /// At the same time as the candidate.
    Together,
    /// Before: the candidate has all requests by now.
    Before,
}

/// The answer to one of the questions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// The figure of the old revision: a share, or milliseconds.
    pub(crate) old: f64,
    /// That of the candidate.
    pub(crate) new: f64,
    /// How often an equal candidate would differ as much, by chance.
    pub(crate) p: f64,
    /// Whether the candidate is worse.
    pub(crate) worse: bool,
}

/// The answers to all three.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) errors: Finding,
    pub(crate) cold: Finding,
    pub(crate) latency: Finding,
}

impl Findings {
    /// What the candidate is worse in.
    pub(crate) fn worse(&self) -> Vec<&'static str> {
        let all = [("errors", self.errors), ("cold starts", self.cold), ("latency", self.latency)];
        all.into_iter().filter(|(_, finding)| finding.worse).map(|(name, _)| name).collect()
    }
}

/// Compares a candidate with the old revision.
pub(crate) fn judge(old: &Observed, new: &Observed, timing: Timing) -> Findings {
    let shares = |old_part: u64, new_part: u64, margin: f64| {
        let (old_share, new_share) = (old.share(old_part), new.share(new_part));
        let p = more_by_chance(old_part, old.requests, new_part, new.requests);
        let worse = p < LEVEL && new_share - old_share > margin;
        Finding { old: old_share, new: new_share, p, worse }
    };
    let (old_ms, new_ms) = (old.typical_ms(), new.typical_ms());
    let p = slower_by_chance(&old.latencies, &new.latencies);
    let margin = match timing {
        Timing::Together => LATENCY_MARGIN,
        Timing::Before => LATER_LATENCY_MARGIN,
    };
    let worse = p < LEVEL && new_ms > old_ms * margin;
    Findings {
        errors: shares(old.errors, new.errors, ERROR_MARGIN),
        cold: shares(old.cold, new.cold, COLD_MARGIN),
        latency: Finding { old: old_ms, new: new_ms, p, worse },
    }
}

/// Whether a candidate fails so much more often that its step need not be finished. What else it is worse
/// in waits for the end of the step.
pub(crate) fn fails_early(old: &Observed, new: &Observed) -> bool {
    let p = more_by_chance(old.errors, old.requests, new.errors, new.requests);
    p < EARLY_LEVEL && new.share(new.errors) - old.share(old.errors) > ERROR_MARGIN
}

/// Fisher's exact test: the probability that at least `new_part` of all marked calls fall on the new
/// revision if marks fall on calls by chance.
fn more_by_chance(old_part: u64, old_all: u64, new_part: u64, new_all: u64) -> f64 {
    let marked = old_part + new_part;
    let ways = |of: u64, taken: u64| {
        ln_factorial(of) - ln_factorial(taken) - ln_factorial(of.saturating_sub(taken))
    };
    let total = ways(old_all + new_all, marked);
    let most = marked.min(new_all);
    let mut p = 0.0;
    for on_new in new_part..=most {
        let on_old = marked - on_new;
        if on_old > old_all {
            continue;
        }
        let term = (ways(new_all, on_new) + ways(old_all, on_old) - total).exp();
        p += term;
        // The terms only shrink from the most likely number on.
        let expected = marked as f64 * new_all as f64 / ((old_all + new_all) as f64).max(1.0);
        if on_new as f64 > expected && term < p * 1e-12 {
            break;
        }
    }
    p.min(1.0)
}

/// The logarithm of `n!`, by Stirling's series where that is exact enough.
fn ln_factorial(n: u64) -> f64 {
    if n < 32 {
        return (2..=n).map(|factor| (factor as f64).ln()).sum();
    }
    let n = n as f64;
    n * n.ln() - n + 0.5 * (2.0 * PI * n).ln() + 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3))
}

/// The test of Mann and Whitney, by its normal approximation with a correction for ties: the
/// probability that calls of an equal candidate would be as much slower.
fn slower_by_chance(old: &[u64], new: &[u64]) -> f64 {
    let count = |counts: &[u64], bucket: usize| counts.get(bucket).map_or(0.0, |c| *c as f64);
    let (mut below, mut slower, mut ties) = (0.0, 0.0, 0.0);
    for bucket in 0..old.len().max(new.len()) {
        let (on_old, on_new) = (count(old, bucket), count(new, bucket));
        slower += on_new * (below + on_old / 2.0);
        below += on_old;
        let tied = on_old + on_new;
        ties += tied.powi(3) - tied;
    }
    let (old, new) = (below, new.iter().sum::<u64>() as f64);
    let all = old + new;
    if old < 1.0 || new < 1.0 {
        return 1.0;
    }
    let variance = old * new / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (slower - old * new / 2.0 - 0.5) / variance.sqrt();
    0.5 * erfc(z / 2f64.sqrt())
}

/// The complementary error function, to 7 digits: the approximation by a polynomial of Chebyshev.
fn erfc(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let polynomial = COEFFICIENTS.iter().rev().fold(0.0, |sum, c| sum * t + c);
    let tail = t * (-x * x + polynomial).exp();
    if x >= 0.0 { tail } else { 2.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random and are the same in each run.
    struct Draws(u64);

    impl Draws {
        /// SplitMix64, as a number from 0 to 1.
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    /// How a revision behaves.
    #[derive(Clone, Copy)]
    struct Behaviour {
        errors: f64,
        cold: f64,
        typical_ms: f64,
    }

    const GOOD: Behaviour = Behaviour { errors: 0.01, cold: 0.02, typical_ms: 3.0 };

    fn sample(draws: &mut Draws, requests: u64, behaves: Behaviour) -> Observed {
        let mut sample = Observed { latencies: vec![0; BUCKETS], ..Observed::default() };
        add(&mut sample, draws, requests, behaves);
        sample
    }

    fn add(sample: &mut Observed, draws: &mut Draws, requests: u64, behaves: Behaviour) {
        sample.requests += requests;
        for _ in 0..requests {
            if draws.next() < behaves.errors {
                sample.errors += 1;
            } else if draws.next() < behaves.cold {
                sample.cold += 1;
            } else {
                // Log-normal, with a standard deviation of a factor of 1.8.
                let normal =
                    (-2.0 * draws.next().max(1e-300).ln()).sqrt() * (2.0 * PI * draws.next()).cos();
                let ms = behaves.typical_ms * (normal * 1.8f64.ln()).exp();
                sample.latencies[bucket(Duration::from_secs_f64(ms / 1e3))] += 1;
            }
        }
    }

    /// Whether a canary of this behaviour is rolled back in the steps 5, 25 and 100 percent, in which, and
    /// after how many requests of the candidate in it.
    fn rolled_back(seed: u64, requests: u64, candidate: Behaviour) -> Option<(usize, u64)> {
        let mut draws = Draws(seed);
        let mut old = Observed::default();
        for (step, percent) in [5, 25, 100].into_iter().enumerate() {
            if percent < 100 {
                old = sample(&mut draws, 0, GOOD);
            }
            let mut new = sample(&mut draws, 0, candidate);
            for quarter in 1..=4 {
                if percent < 100 {
                    add(&mut old, &mut draws, requests / 4 * (100 - percent) / percent, GOOD);
                }
                add(&mut new, &mut draws, requests / 4, candidate);
                if quarter < 4 && fails_early(&old, &new) {
                    return Some((step, new.requests));
                }
            }
            let timing = if percent < 100 { Timing::Together } else { Timing::Before };
            if !judge(&old, &new, timing).worse().is_empty() {
                return Some((step, new.requests));
            }
        }
        None
    }

    /// Case R12. 1,000 canaries with a revision that is equal: the numbers are the same in each run.
    #[test]
    fn an_equal_candidate_is_rolled_back_in_less_than_one_of_a_hundred_canaries() {
        let wrong: Vec<u64> =
            (0..1_000).filter(|seed| rolled_back(*seed, 200, GOOD).is_some()).collect();
        assert!(wrong.len() < 10, "{wrong:?}");
    }

    /// Case R12.
    #[test]
    fn a_worse_candidate_is_rolled_back_in_the_first_step() {
        for worse in [
            Behaviour { errors: 0.08, ..GOOD },
            Behaviour { cold: 0.25, ..GOOD },
            Behaviour { typical_ms: 4.5, ..GOOD },
        ] {
            let in_first =
                |seed: &u64| rolled_back(*seed, 200, worse).is_some_and(|(step, _)| step == 0);
            let found = (0..200).filter(in_first).count();
            assert!(found >= 190, "{found} of 200");
        }
    }

    /// Case R12.
    #[test]
    fn a_candidate_that_fails_half_of_the_time_is_rolled_back_after_a_quarter_of_the_first_step() {
        let failing = Behaviour { errors: 0.5, ..GOOD };
        for seed in 0..200 {
            assert_eq!(rolled_back(seed, 200, failing), Some((0, 50)), "{seed}");
        }
    }

    #[test]
    fn a_difference_that_is_certain_and_small_is_none() {
        let mut draws = Draws(7);
        let old = sample(&mut draws, 100_000, GOOD);
        let slightly = Behaviour { errors: 0.013, cold: 0.04, typical_ms: 3.15 };
        let new = sample(&mut draws, 100_000, slightly);
        let verdict = judge(&old, &new, Timing::Together);
        assert!(verdict.errors.p < LEVEL && verdict.cold.p < LEVEL && verdict.latency.p < LEVEL);
        assert_eq!(verdict.worse(), Vec::<&str>::new());
    }

    #[test]
    fn the_tests_give_the_numbers_of_the_literature() {
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < expected * 1e-4 + 1e-12, "{found} {expected}");
        };
        // The lady tasting tea: 3 of 4, and 4 of 4.
        near(more_by_chance(1, 4, 3, 4), 17.0 / 70.0);
        near(more_by_chance(0, 4, 4, 4), 1.0 / 70.0);
        near(more_by_chance(0, 4_000, 1, 200), 200.0 / 4_200.0);
        near(more_by_chance(0, 100, 0, 100), 1.0);
        near(0.5 * erfc(3.090_232 / 2f64.sqrt()), 0.001);
        near(ln_factorial(40), 110.320_639_714_757_4);
        // All of ten are slower than all of ten: z is (100 - 50 - 0.5) / sqrt(175).
        let p = slower_by_chance(&[1; 10], &[[0; 10], [1; 10]].concat());
        near(p, 0.5 * erfc(49.5 / 175f64.sqrt() / 2f64.sqrt()));
        assert_eq!(slower_by_chance(&[10], &[10]), 1.0, "all are equal");
        assert_eq!(slower_by_chance(&[], &[10]), 1.0, "there is nothing to compare with");
    }

    #[test]
    fn a_latency_is_in_the_bucket_around_it() {
        for us in [1u64, 7, 130, 2_500, 999_999, 60_000_000] {
            let middle = middle_ms(bucket(Duration::from_micros(us))) * 1e3;
            assert!((middle / us as f64 - 1.0).abs() < 0.1, "{us} {middle}");
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_secs(1 << 20)), BUCKETS - 1);
    }

    #[test]
    fn what_nobody_called_is_not_worse() {
        let none = Observed::default();
        assert_eq!(judge(&none, &none, Timing::Together).worse(), Vec::<&str>::new());
        assert_eq!((none.quantile_ms(0.5), none.typical_ms()), (0.0, 0.0));
    }
}
