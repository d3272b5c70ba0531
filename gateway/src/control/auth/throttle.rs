//! Failed attempts to authenticate, counted by address, and what more of them lead to.
//!
//! Guessing 256 random bits is hopeless at any speed. What is stopped here is the work and the
//! noise that guesses make, and a client that goes on with a token that was revoked. Many clients
//! can share an address (a proxy, an office), and one of them must not lock out the others: a
//! token that was valid there lately goes on to work, all others wait.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long failures count.
const WINDOW: Duration = Duration::from_mins(1);
/// How long a token that was valid goes on to be checked, whatever others at its address do.
const TRUST: Duration = Duration::from_hours(1);
/// Things that are remembered: `SETS` times `WAYS`. Arbitrary, 128 KiB a table.
const SETS: usize = 1_024;
const WAYS: usize = 4;

/// Who tries, and who was let in.
pub(crate) struct AuthThrottle {
    /// Failures in [`WINDOW`] after which an address must wait; 0 for any number.
    allowed: u32,
    failed: Recent,
    valid: Recent,
}

/// The address has failed too often, and may try again after this time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany(pub(crate) Duration);

impl AuthThrottle {
    pub(crate) fn new(allowed: u32) -> Self {
        Self { allowed, failed: Recent::new(WINDOW), valid: Recent::new(TRUST) }
    }

    /// Whether a token that comes from `peer` is looked at now.
    pub(crate) fn admit(&self, peer: IpAddr, token: &str, now: Instant) -> Result<(), TooMany> {
        let peer = client(peer);
        match self.failed.get(&peer, now) {
            Some(failed) if self.is_over(failed.count, 0) => {
                let trusted = self.valid.get(&(peer, token), now).is_some();
                if trusted { Ok(()) } else { Err(failed.wait(now)) }
            }
            _ => Ok(()),
        }
    }

    /// Notes that a token was not valid. Many that come at once are all admitted: so this also
    /// says whether it was one too many.
    pub(crate) fn note_failure(&self, peer: IpAddr, now: Instant) -> Result<(), TooMany> {
        let failed = self.failed.add(&client(peer), now);
        if self.is_over(failed.count, 1) { Err(failed.wait(now)) } else { Ok(()) }
    }

    /// Notes that a token was valid.
    pub(crate) fn note_success(&self, peer: IpAddr, token: &str, now: Instant) {
        self.valid.renew(&(client(peer), token), now);
    }

    /// Whether nobody may fail so often. Of `count`, `this` many are the attempt at hand.
    fn is_over(&self, count: u32, this: u32) -> bool {
        self.allowed > 0 && count >= self.allowed.saturating_add(this)
    }
}

/// What counts as one client: an IPv4 address, or a network of IPv6, because each has 2^64.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// How often things happened lately. Bounded: something new takes the place of what has happened
/// least often among the few that it could be confused with. Who has thousands of addresses can so
/// be forgotten early; everybody else is told apart by 64 bits of a hash that nobody can foresee.
struct Recent {
    kept: Duration,
    hasher: RandomState,
    sets: Mutex<Box<[[Option<Entry>; WAYS]]>>,
}

#[derive(Clone, Copy)]
struct Entry {
    key: u64,
    since: Instant,
    count: u32,
}

impl Entry {
    fn wait(&self, now: Instant) -> TooMany {
        TooMany(WINDOW.saturating_sub(now - self.since))
    }
}

impl Recent {
    fn new(kept: Duration) -> Self {
        let sets = vec![[None; WAYS]; SETS].into_boxed_slice();
        Self { kept, hasher: RandomState::new(), sets: Mutex::new(sets) }
    }

    fn get(&self, what: &impl Hash, now: Instant) -> Option<Entry> {
        let key = self.hasher.hash_one(what);
        let found = self.lock()[set(key)].iter().flatten().find(|entry| entry.key == key).copied();
        found.filter(|entry| now - entry.since < self.kept)
    }

    /// Counts once more; the time that this is kept for goes on.
    fn add(&self, what: &impl Hash, now: Instant) -> Entry {
        let key = self.hasher.hash_one(what);
        let mut sets = self.lock();
        let place = self.place(&mut sets[set(key)], key, now);
        let entry = place.get_or_insert(Entry { key, since: now, count: 0 });
        entry.count = entry.count.saturating_add(1);
        *entry
    }

    /// Keeps it from now on.
    fn renew(&self, what: &impl Hash, now: Instant) {
        let key = self.hasher.hash_one(what);
        let mut sets = self.lock();
        *self.place(&mut sets[set(key)], key, now) = Some(Entry { key, since: now, count: 1 });
    }

    /// The place of `key`: its own, or one that was emptied for it.
    fn place<'a>(
        &self,
        set: &'a mut [Option<Entry>; WAYS],
        key: u64,
        now: Instant,
    ) -> &'a mut Option<Entry> {
        for place in set.iter_mut() {
            place.take_if(|entry| now - entry.since >= self.kept);
        }
        let own = set.iter().position(|place| place.is_some_and(|entry| entry.key == key));
        if let Some(own) = own {
            return &mut set[own];
        }
        // Of equals the oldest leaves.
        let rank = |place: &Option<Entry>| place.map(|entry| (entry.count, entry.since));
        let place = set.iter_mut().min_by_key(|place| rank(place)).expect("a set has places");
        *place = None;
        place
    }

    fn lock(&self) -> MutexGuard<'_, Box<[[Option<Entry>; WAYS]]>> {
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

    #[test]
    fn a06_an_address_that_has_failed_too_often_waits_and_others_do_not() {
        let attempts = AuthThrottle::new(3);
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(attempts.admit(bad, "x", start), Ok(()));
            assert_eq!(attempts.note_failure(bad, start), Ok(()));
        }
        let later = start + Duration::from_secs(20);
        let wait = Err(TooMany(Duration::from_secs(40)));
        assert_eq!(attempts.admit(bad, "x", later), wait);
        assert_eq!(attempts.note_failure(bad, later), wait, "it came at the same time");
        assert_eq!(attempts.admit(good, "x", later), Ok(()));
        assert_eq!(attempts.admit(bad, "x", start + WINDOW), Ok(()), "its minute is over");
        assert_eq!(attempts.note_failure(bad, start + WINDOW), Ok(()));
    }

    #[test]
    fn a06_a_token_that_was_valid_there_is_not_locked_out() {
        let attempts = AuthThrottle::new(1);
        let (shared, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let start = Instant::now();
        attempts.note_success(shared, "good", start);
        attempts.note_failure(shared, start).unwrap();
        attempts.note_failure(other, start).unwrap();
        assert_eq!(attempts.admit(shared, "good", start), Ok(()));
        assert!(attempts.admit(shared, "guess", start).is_err());
        assert!(attempts.admit(other, "good", start).is_err(), "it was valid elsewhere");
        let much_later = start + TRUST;
        attempts.note_failure(shared, much_later).unwrap();
        assert!(attempts.admit(shared, "good", much_later).is_err(), "that is long ago");
    }

    #[test]
    fn a06_zero_lets_everybody_try() {
        let attempts = AuthThrottle::new(0);
        let now = Instant::now();
        for _ in 0..100 {
            attempts.note_failure(address("192.0.2.1"), now).unwrap();
        }
        assert_eq!(attempts.admit(address("192.0.2.1"), "x", now), Ok(()));
    }

    #[test]
    fn a06_all_addresses_of_a_network_count_as_one() {
        assert_eq!(client(address("2001:db8::1")), client(address("2001:db8::ffff:0:0:2")));
        assert_ne!(client(address("2001:db8::1")), client(address("2001:db8:0:1::1")));
        assert_eq!(client(address("::ffff:192.0.2.1")), address("192.0.2.1"));
        assert_ne!(client(address("192.0.2.1")), client(address("192.0.2.2")));
    }

    #[test]
    fn a06_a_flood_of_addresses_takes_no_more_memory_and_frees_nobody_who_fails_often() {
        let attempts = AuthThrottle::new(10);
        let (bad, now) = (address("192.0.2.1"), Instant::now());
        for _ in 0..10 {
            attempts.note_failure(bad, now).unwrap();
        }
        for other in 0..100_000_u32 {
            let other = IpAddr::from((0x0a00_0000 + other).to_be_bytes());
            let _ = attempts.note_failure(other, now);
        }
        assert_eq!(attempts.failed.lock().len() * WAYS, 4_096);
        assert!(attempts.admit(bad, "x", now).is_err());
    }
}
