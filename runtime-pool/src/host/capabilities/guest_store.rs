//! A store of guests' data, as everyone who uses it shares it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The number of a store. None is given twice, also not after its store was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub i64);

/// A store of guests' data: a row that its owner has made, whose data lies in a backend. What is resident
/// shares it, so that another quota and its end hold at once.
#[derive(Debug)]
pub struct GuestStore {
    id: StoreId,
    bytes_max: AtomicU64,
    keys_max: AtomicU64,
    deleted: AtomicBool,
}

impl GuestStore {
    /// A store with its quota: the bytes of all keys and values, and the number of keys.
    pub fn new(id: StoreId, bytes_max: u64, keys_max: u64) -> Self {
        Self {
            id,
            bytes_max: AtomicU64::new(bytes_max),
            keys_max: AtomicU64::new(keys_max),
            deleted: AtomicBool::new(false),
        }
    }

    /// Its number.
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// The bytes that all of its keys and values may have together.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Relaxed)
    }

    /// The keys that it may have.
    pub fn keys_max(&self) -> u64 {
        self.keys_max.load(Relaxed)
    }

    /// Gives it another quota. What is stored already stays.
    pub fn set_quota(&self, bytes_max: u64, keys_max: u64) {
        self.bytes_max.store(bytes_max, Relaxed);
        self.keys_max.store(keys_max, Relaxed);
    }

    /// Whether it was deleted. Operations on it then fail with [`Refused::NoStore`](super::refused::Refused::NoStore).
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Relaxed)
    }

    /// Ends it, for everything that is resident, too.
    pub fn delete(&self) {
        self.deleted.store(true, Relaxed);
    }
}
