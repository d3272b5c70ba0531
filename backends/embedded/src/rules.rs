//! What every backend here decides in the same way: expiry, sizes, quotas, expectations and counters.

use std::{str, sync::Arc, time::Duration};

use runtime_pool::{Expect, GuestStore, Refused, StoreUsage};

/// Tells the time, in Unix milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What a store may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    bytes_max: u64,
    keys_max: u64,
}

impl Room {
    pub(crate) fn of(store: &GuestStore) -> Self {
        Self { bytes_max: store.bytes_max(), keys_max: store.keys_max() }
    }

    /// Refuses a change that makes a store larger than it may be. One that has too much already, because
    /// its quota became smaller, may still shrink.
    pub(crate) fn check(self, before: StoreUsage, after: StoreUsage) -> Result<(), Refused> {
        if after.bytes > self.bytes_max && after.bytes > before.bytes {
            return Err(Refused::Quota { what: "bytes", most: self.bytes_max });
        }
        if after.keys > self.keys_max && after.keys > before.keys {
            return Err(Refused::Quota { what: "keys", most: self.keys_max });
        }
        Ok(())
    }
}

/// Refuses operations on a store that was deleted.
pub(crate) fn check_exists(store: &GuestStore) -> Result<(), Refused> {
    if store.is_deleted() { Err(Refused::NoStore) } else { Ok(()) }
}

/// Whether an entry that expires then is still there.
pub(crate) fn is_live(expires_ms: Option<i64>, now_ms: i64) -> bool {
    expires_ms.is_none_or(|at| at > now_ms)
}

/// When an entry expires that is written now.
pub(crate) fn expiry(ttl: Option<Duration>, now_ms: i64) -> Option<i64> {
    ttl.map(|ttl| now_ms.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)))
}

/// What an entry counts for its store.
pub(crate) fn size(key: &str, value: &[u8], metadata: Option<&str>) -> u64 {
    (key.len() + value.len() + metadata.map_or(0, str::len)) as u64
}

/// The usage after an entry of this size, or none, was replaced by one of that size, or none.
pub(crate) fn replaced(usage: StoreUsage, old: Option<u64>, new: Option<u64>) -> StoreUsage {
    StoreUsage {
        bytes: (usage.bytes + new.unwrap_or(0)).saturating_sub(old.unwrap_or(0)),
        keys: (usage.keys + u64::from(new.is_some())).saturating_sub(u64::from(old.is_some())),
    }
}

/// Whether what is there is what a write expects: an entry of this version, or nothing.
pub(crate) fn is_as_expected(expect: Expect, version: Option<u64>) -> bool {
    match expect {
        Expect::Anything => true,
        Expect::Absent => version.is_none(),
        Expect::Version(expected) => version == Some(expected),
    }
}

/// A counter after an addition. An entry that is not there is 0.
pub(crate) fn count(value: Option<&[u8]>, delta: i64) -> Result<i64, Refused> {
    let before = match value {
        None => 0,
        Some(value) => str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or_else(|| Refused::Invalid("the value is not a whole number".to_owned()))?,
    };
    before
        .checked_add(delta)
        .ok_or_else(|| Refused::Invalid("the sum has no place in 64 bits".to_owned()))
}

/// What is left of an allowance of bytes after these were read.
pub(crate) fn left(left: u64, read: u64, most: u64) -> Result<u64, Refused> {
    left.checked_sub(read).ok_or(Refused::TooLarge { what: "what was asked for", most })
}
