//! A realistic distribution of calls: a few functions get most calls, and most functions get few.

/// Draws ranks by Zipf's law: the probability of rank `n`, counted from one, is that of rank one
/// divided by a power of `n`. The same seed gives the same ranks.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// The cumulative probability: of each rank and all ranks before it together.
    cumulative: Vec<f64>,
    state: u64,
}

impl Zipf {
    /// A distribution over `ranks` ranks; 0 counts as 1.
    #[must_use]
    pub fn new(ranks: u32, exponent: f64, seed: u64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=ranks.max(1))
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        for share in &mut cumulative {
            *share /= sum;
        }
        Self { cumulative, state: seed }
    }

    /// The next rank, counted from zero.
    pub fn draw(&mut self) -> u32 {
        let uniform = (self.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        let rank = self.cumulative.partition_point(|share| *share <= uniform);
        rank.min(self.cumulative.len() - 1) as u32
    }

    /// The generator splitmix64: small, and good enough for a benchmark.
    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_as_often_as_the_law_says() {
        let mut zipf = Zipf::new(100, 1.0, 7);
        let mut counts = [0_u32; 100];
        for _ in 0..100_000 {
            counts[zipf.draw() as usize] += 1;
        }
        // 100,000 divided by the sum of 1/n up to 100, which is 5.187.
        for (rank, expected) in [(0, 19_279.0), (1, 9_639.0), (9, 1_928.0)] {
            let found = f64::from(counts[rank]);
            assert!((found / expected - 1.0_f64).abs() < 0.1, "rank {rank}: {found}");
        }
        assert!(counts.iter().all(|count| *count > 50));
    }

    #[test]
    fn the_same_seed_gives_the_same_ranks() {
        let draw = |seed| {
            let mut zipf = Zipf::new(1_000, 0.9, seed);
            std::array::from_fn::<_, 10, _>(|_| zipf.draw())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
