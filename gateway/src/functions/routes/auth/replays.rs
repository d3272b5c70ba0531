//! Signatures that were used, so that none is used twice on this node.
//!
//! They are kept by the time that they name, and forgotten once that is too long ago to be taken. If
//! there are too many, signed requests are refused: to forget one early would let it in again.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
};

use super::refusal::AuthRefusal;

/// Signatures that are remembered at a time, of all routes. They take about 40 megabytes.
const SIGNATURES: usize = 1_000_000;
/// Locks, so that requests rarely wait for each other.
const SHARDS: usize = 16;
/// Seconds whose signatures are forgotten together.
const BUCKET_S: i64 = 16;

/// The signatures that were used.
pub(super) struct Replays {
    shards: [Mutex<BTreeMap<i64, HashSet<u128>>>; SHARDS],
    count: AtomicUsize,
    /// The longest window of a route that a signature has come for.
    longest_s: AtomicI64,
    most: usize,
}

impl Replays {
    pub(super) fn new() -> Self {
        Self::holding(SIGNATURES)
    }

    fn holding(most: usize) -> Self {
        let (count, longest_s) = (AtomicUsize::new(0), AtomicI64::new(0));
        Self { shards: Default::default(), count, longest_s, most }
    }

    /// Remembers a signature that is right, unless it was used before.
    pub(super) fn remember(
        &self,
        signature: &[u8; 32],
        signed_s: i64,
        window_s: u32,
        now_s: i64,
    ) -> Result<(), AuthRefusal> {
        let window_s = i64::from(window_s);
        let longest_s = self.longest_s.fetch_max(window_s, Relaxed).max(window_s);
        // The first half of a signature is as good as random.
        let [first, .., last] = *signature;
        let half = signature.first_chunk().map_or(0, |half: &[u8; 16]| u128::from_be_bytes(*half));
        let shard = &self.shards[usize::from(first ^ last) % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = shard.first_entry()
            && (oldest.key() + 1) * BUCKET_S + longest_s < now_s
        {
            self.count.fetch_sub(oldest.remove().len(), Relaxed);
        }
        if shard.get(&(signed_s / BUCKET_S)).is_some_and(|used| used.contains(&half)) {
            return Err(AuthRefusal::Wrong("the signature was used before"));
        }
        if self.count.fetch_add(1, Relaxed) >= self.most {
            self.count.fetch_sub(1, Relaxed);
            return Err(AuthRefusal::Busy("too many signatures are remembered"));
        }
        shard.entry(signed_s / BUCKET_S).or_default().insert(half);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(number: u32) -> [u8; 32] {
        let mut signature = [0; 32];
        signature[..4].copy_from_slice(&number.to_be_bytes());
        signature
    }

    #[test]
    fn a_signature_is_taken_once_for_as_long_as_its_time_would_be() {
        let replays = Replays::new();
        let remember = |number, signed, now| replays.remember(&signature(number), signed, 300, now);
        for now in [700, 1_000, 1_300] {
            assert_eq!(remember(1, 1_000, now).is_ok(), now == 700, "{now}");
        }
        assert!(remember(2, 1_000, 1_000).is_ok());
        // What is forgotten is too old for its window.
        assert!(remember(1, 1_000, 1_000 + 300 + 2 * BUCKET_S + 1).is_ok());
    }

    #[test]
    fn nothing_is_forgotten_early_when_there_are_too_many() {
        let replays = Replays::holding(100);
        let remember = |number, signed, now| replays.remember(&signature(number), signed, 10, now);
        assert!((0..100).all(|number| remember(number, 1_000, 1_000).is_ok()));
        let full = Err(AuthRefusal::Busy("too many signatures are remembered"));
        assert_eq!(remember(100, 1_000, 1_000), full);
        assert_eq!(
            remember(7, 1_000, 1_000),
            Err(AuthRefusal::Wrong("the signature was used before"))
        );
        // Each shard forgets when it is used.
        let later = 1_000 + 10 + 2 * BUCKET_S + 1;
        assert!((0..100).filter(|number| remember(*number, later, later).is_ok()).count() > 50);
    }
}
