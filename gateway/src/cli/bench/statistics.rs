//! Medians, their confidence intervals, and a test whether two of them differ. No method assumes a
//! shape of the distribution: times of starts have long tails.

/// The confidence level of intervals.
const CONFIDENCE: f64 = 0.95;

/// The fewest observations that have an interval of this confidence.
pub(crate) const OBSERVATIONS_MIN: usize = 6;

/// The limit of observations for the exact arithmetic of [`chance`], whose cost grows with them.
pub(crate) const OBSERVATIONS_MAX: usize = 60;

/// The median. Zero if there are no values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (None, _) => 0.0,
        (Some(&value), 1) => value,
        (Some(&value), _) => f64::midpoint(sorted[middle - 1], value),
    }
}

/// The 99th percentile. Zero if there are no values.
pub(crate) fn p99(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let rank = (sorted.len() as f64 * 0.99).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

/// The two observations between which the true median lies with 95 % confidence.
///
/// By order statistics: each observation is below the true median with probability one half, so the
/// number of such observations is binomial.
pub(crate) fn median_interval(observations: &[f64]) -> Option<(f64, f64)> {
    let sorted = sorted(observations);
    let n = sorted.len();
    // The probability of exactly `below` observations below the median, beginning with 0.
    let mut exactly = 0.5_f64.powi(i32::try_from(n).ok()?);
    let mut tail = exactly;
    let mut outside = 0;
    while outside < n / 2 && 2.0 * tail <= 1.0 - CONFIDENCE {
        outside += 1;
        exactly *= (n - outside + 1) as f64 / outside as f64;
        tail += exactly;
    }
    let first = outside.checked_sub(1)?;
    Some((sorted[first], sorted[n - 1 - first]))
}

/// The probability that chance alone causes at least this difference between two sets of
/// observations, by the exact two-sided test of Mann and Whitney.
///
/// Equal values count one half for each side; a half is rounded towards "no difference".
pub(crate) fn chance(old: &[f64], new: &[f64]) -> f64 {
    let (n, m) = (old.len(), new.len());
    if n == 0 || m == 0 {
        return 1.0;
    }
    let twice: usize = old
        .iter()
        .flat_map(|a| new.iter().map(move |b| a.total_cmp(b)))
        .map(|order| match order {
            std::cmp::Ordering::Less => 2,
            std::cmp::Ordering::Equal => 1,
            std::cmp::Ordering::Greater => 0,
        })
        .sum();
    let smaller = twice.min(2 * n * m - twice).div_ceil(2);
    let orders = orders(n, m);
    let as_far: i128 = orders[..=smaller].iter().sum();
    let all: i128 = orders.iter().sum();
    (2.0 * as_far as f64 / all as f64).min(1.0)
}

/// The number of orders of `n` and `m` distinct values with exactly `u` pairs in one order, for each
/// `u`: the coefficients of the Gaussian binomial.
fn orders(n: usize, m: usize) -> Vec<i128> {
    let mut counts = vec![0_i128; n * m + 1];
    counts[0] = 1;
    for i in 1..=n {
        // Times 1 - q^(m+i), from the top so that each is used before it changes.
        for u in (m + i..counts.len()).rev() {
            counts[u] -= counts[u - m - i];
        }
        // Divided by 1 - q^i.
        for u in i..counts.len() {
            counts[u] += counts[u - i];
        }
    }
    counts
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to(n: usize) -> Vec<f64> {
        (1..=n).map(|value| value as f64).collect()
    }

    #[test]
    fn the_median_is_in_the_middle_and_p99_near_the_end() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(p99(&up_to(200)), 198.0);
        assert_eq!(p99(&up_to(3)), 3.0);
        assert_eq!(p99(&[]), 0.0);
    }

    #[test]
    fn the_interval_has_the_ranks_that_statistics_tables_list() {
        assert_eq!(median_interval(&up_to(OBSERVATIONS_MIN - 1)), None);
        assert_eq!(median_interval(&up_to(OBSERVATIONS_MIN)), Some((1.0, 6.0)));
        assert_eq!(median_interval(&up_to(10)), Some((2.0, 9.0)));
        assert_eq!(median_interval(&up_to(30)), Some((10.0, 21.0)));
        assert_eq!(median_interval(&up_to(60)), Some((22.0, 39.0)));
        assert_eq!(median_interval(&[]), None);
    }

    #[test]
    fn the_orders_of_two_and_two_are_counted_by_hand() {
        // aabb abab abba baab baba bbaa: pairs in which a is before b: 4 3 2 2 1 0.
        assert_eq!(orders(2, 2), [1, 1, 2, 1, 1]);
        assert_eq!(orders(3, 5), orders(5, 3));
        // 60 over 30.
        assert_eq!(orders(30, 30).iter().sum::<i128>(), 118_264_581_564_861_424);
        assert!(orders(OBSERVATIONS_MAX, OBSERVATIONS_MAX).iter().all(|&count| count > 0));
    }

    #[test]
    fn the_chance_is_that_of_the_published_tables() {
        let far: Vec<f64> = up_to(6).iter().map(|value| value + 100.0).collect();
        // Two of the 924 orders of six and six are as far apart as can be.
        assert!((chance(&up_to(6), &far) - 2.0 / 924.0).abs() < 1e-12);
        assert_eq!(chance(&far, &up_to(6)), chance(&up_to(6), &far));
        // Five and five with U = 2: 0.0317, as tables of the test list it.
        let (old, new) = ([1.0, 2.0, 3.0, 4.0, 7.0], [5.0, 6.0, 8.0, 9.0, 10.0]);
        assert!((chance(&old, &new) - 8.0 / 252.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_the_same_does_not_differ() {
        assert_eq!(chance(&up_to(30), &up_to(30)), 1.0);
        assert_eq!(chance(&[1.0; 9], &[1.0; 7]), 1.0);
        assert_eq!(chance(&[], &[1.0]), 1.0);
    }
}
