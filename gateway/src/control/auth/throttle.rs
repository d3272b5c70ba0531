//! Throttles clients that send many tokens that are not valid.
//!
//! No attacker can guess 256 random bits. The throttle limits the work that attempts cause, and
//! stops a client that keeps using a token that was revoked. Many clients can share an address (a
//! proxy, an office, the users of one machine), and one of them must not lock out the others:
//! failures are counted by address and token. Ids that no token has count as one; failures with
//! them concern no token. A client that knows the id of a token can lock it at its own address,
//! unless it was valid there before.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::server::client_of;

/// The time in which failures are counted.
const WINDOW: Duration = Duration::from_mins(1);
/// The time in which a token that was valid is exempt from the throttle of its address.
const TRUST: Duration = Duration::from_hours(1);
/// The size of a table: `SETS` times `WAYS` entries. Arbitrary, 128 KiB.
const SETS: usize = 1_024;
const WAYS: usize = 4;

/// Failures by address and id of a token, and successes by address and token.
pub(crate) struct AuthThrottle {
    /// Failures in [`WINDOW`] after which a client must wait; 0 turns the throttle off.
    allowed: u32,
    failed: Recent,
    valid: Recent,
}

/// There were too many failures. The client may try again after this time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany(pub(crate) Duration);

impl AuthThrottle {
    pub(crate) fn new(allowed: u32) -> Self {
        Self { allowed, failed: Recent::new(WINDOW), valid: Recent::new(TRUST) }
    }

    /// Whether a token from `peer` may be checked. Its `id` is that in its text, and may not exist.
    pub(crate) fn admit(
        &self,
        peer: IpAddr,
        id: Option<&str>,
        token: &str,
        now: Instant,
    ) -> Result<(), TooMany> {
        let peer = client_of(peer);
        match self.failed.get(&(peer, id), now) {
            Some(failed) if self.is_over(failed.count, 0) => {
                let trusted = self.valid.get(&(peer, token), now).is_some();
                if trusted { Ok(()) } else { Err(failed.wait(now)) }
            }
            _ => Ok(()),
        }
    }

    /// Records that a token was not valid; `id` is that of the token that it claims to be, if there
    /// is one. Returns an error if that was one failure too many: of several attempts at the same
    /// time, `admit` may have admitted all, and it admits every id that was not found.
    pub(crate) fn note_failure(
        &self,
        peer: IpAddr,
        id: Option<&str>,
        now: Instant,
    ) -> Result<(), TooMany> {
        let failed = self.failed.add(&(client_of(peer), id), now);
        if self.is_over(failed.count, 1) { Err(failed.wait(now)) } else { Ok(()) }
    }

    /// Records that a token was valid.
    pub(crate) fn note_success(&self, peer: IpAddr, token: &str, now: Instant) {
        self.valid.restart(&(client_of(peer), token), now);
    }

    /// Whether `count` failures are too many. The caller's own attempt is `this` of them: 0 or 1.
    fn is_over(&self, count: u32, this: u32) -> bool {
        self.allowed > 0 && count >= self.allowed.saturating_add(this)
    }
}

/// Recent events by key. The size is fixed: a new key replaces the key with the lowest count in its
/// set. The entries of a client with thousands of addresses can be replaced early. Keys
/// are told apart by 64 bits of a hash with a random seed.
struct Recent {
    kept: Duration,
    hasher: RandomState,
    sets: Mutex<Box<[[Option<AttemptCount>; WAYS]]>>,
}

#[derive(Clone, Copy)]
struct AttemptCount {
    key: u64,
    since: Instant,
    count: u32,
}

impl AttemptCount {
    fn wait(&self, now: Instant) -> TooMany {
        TooMany(WINDOW.saturating_sub(now - self.since))
    }
}

impl Recent {
    fn new(kept: Duration) -> Self {
        let sets = vec![[None; WAYS]; SETS].into_boxed_slice();
        Self { kept, hasher: RandomState::new(), sets: Mutex::new(sets) }
    }

    fn get(&self, what: &impl Hash, now: Instant) -> Option<AttemptCount> {
        let key = self.hasher.hash_one(what);
        let found = self.lock()[set(key)].iter().flatten().find(|entry| entry.key == key).copied();
        found.filter(|entry| now - entry.since < self.kept)
    }

    /// Adds one to the count; the time does not start again.
    fn add(&self, what: &impl Hash, now: Instant) -> AttemptCount {
        let key = self.hasher.hash_one(what);
        let mut sets = self.lock();
        let slot = self.slot(&mut sets[set(key)], key, now);
        let entry = slot.get_or_insert(AttemptCount { key, since: now, count: 0 });
        entry.count = entry.count.saturating_add(1);
        *entry
    }

    /// Sets the count to 1 and starts the time again.
    fn restart(&self, what: &impl Hash, now: Instant) {
        let key = self.hasher.hash_one(what);
        let mut sets = self.lock();
        *self.slot(&mut sets[set(key)], key, now) =
            Some(AttemptCount { key, since: now, count: 1 });
    }

    /// The slot of `key`: its own, or one that is emptied for it.
    fn slot<'a>(
        &self,
        set: &'a mut [Option<AttemptCount>; WAYS],
        key: u64,
        now: Instant,
    ) -> &'a mut Option<AttemptCount> {
        for slot in set.iter_mut() {
            slot.take_if(|entry| now - entry.since >= self.kept);
        }
        let own = set.iter().position(|slot| slot.is_some_and(|entry| entry.key == key));
        if let Some(own) = own {
            return &mut set[own];
        }
        // Among equal counts, the oldest entry is replaced.
        let rank = |slot: &Option<AttemptCount>| slot.map(|entry| (entry.count, entry.since));
        let slot = set.iter_mut().min_by_key(|slot| rank(slot)).expect("a set has slots");
        *slot = None;
        slot
    }

    fn lock(&self) -> MutexGuard<'_, Box<[[Option<AttemptCount>; WAYS]]>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set(key: u64) -> usize {
    usize::try_from(key % SETS as u64).expect("it is less than the number of sets")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Case A06.
    #[test]
    fn a_token_that_has_failed_too_often_waits_and_others_do_not() {
        let attempts = AuthThrottle::new(3);
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        let start = Instant::now();
        for id in [Some("a"), None] {
            for _ in 0..3 {
                assert_eq!(attempts.admit(bad, id, "x", start), Ok(()));
                assert_eq!(attempts.note_failure(bad, id, start), Ok(()));
            }
            let later = start + Duration::from_secs(20);
            let wait = Err(TooMany(Duration::from_secs(40)));
            assert_eq!(attempts.admit(bad, id, "x", later), wait);
            assert_eq!(attempts.note_failure(bad, id, later), wait, "it came at the same time");
            assert_eq!(attempts.admit(bad, Some("b"), "y", later), Ok(()), "another token");
            assert_eq!(attempts.admit(good, id, "x", later), Ok(()), "another address");
            assert_eq!(attempts.admit(bad, id, "x", start + WINDOW), Ok(()), "its minute is over");
            assert_eq!(attempts.note_failure(bad, id, start + WINDOW), Ok(()));
        }
    }

    /// Case A06.
    #[test]
    fn a_token_that_was_valid_there_is_not_locked_out() {
        let attempts = AuthThrottle::new(1);
        let (shared, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let (id, start) = (Some("a"), Instant::now());
        attempts.note_success(shared, "good", start);
        attempts.note_failure(shared, id, start).unwrap();
        attempts.note_failure(other, id, start).unwrap();
        assert_eq!(attempts.admit(shared, id, "good", start), Ok(()));
        assert!(attempts.admit(shared, id, "guess", start).is_err());
        assert!(attempts.admit(other, id, "good", start).is_err(), "it was valid elsewhere");
        let much_later = start + TRUST;
        attempts.note_failure(shared, id, much_later).unwrap();
        assert!(attempts.admit(shared, id, "good", much_later).is_err(), "that is long ago");
    }

    /// Case A06.
    #[test]
    fn a_limit_of_zero_throttles_no_address() {
        let attempts = AuthThrottle::new(0);
        let now = Instant::now();
        for _ in 0..100 {
            attempts.note_failure(address("192.0.2.1"), None, now).unwrap();
        }
        assert_eq!(attempts.admit(address("192.0.2.1"), None, "x", now), Ok(()));
    }

    /// Case A06.
    #[test]
    fn all_addresses_of_a_network_count_as_one() {
        let attempts = AuthThrottle::new(1);
        let now = Instant::now();
        attempts.note_failure(address("2001:db8::1"), None, now).unwrap();
        assert!(attempts.admit(address("2001:db8::ffff:0:0:2"), None, "x", now).is_err());
        assert_eq!(attempts.admit(address("2001:db8:0:1::1"), None, "x", now), Ok(()));
    }

    /// Case A06.
    #[test]
    fn a_flood_of_addresses_takes_no_more_memory_and_frees_no_throttled_address() {
        let attempts = AuthThrottle::new(10);
        let (bad, now) = (address("192.0.2.1"), Instant::now());
        for _ in 0..10 {
            attempts.note_failure(bad, Some("a"), now).unwrap();
        }
        for other in 0..100_000_u32 {
            let other = IpAddr::from((0x0a00_0000 + other).to_be_bytes());
            let _ = attempts.note_failure(other, None, now);
        }
        assert_eq!(attempts.failed.lock().len() * WAYS, 4_096);
        assert!(attempts.admit(bad, Some("a"), "x", now).is_err());
    }
}
