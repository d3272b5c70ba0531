//! The backend under test, and short forms of its operations.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use runtime_pool::{
    Entry, Expect, GuestStore, KeyPage, KeyValue, Keys, Put, Refused, StoreId, StoreUsage, Written,
};

/// Tells a time that only tests move.
pub type TestClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A backend, and what must live as long as it does, such as its directory.
pub struct MadeBackend {
    /// The backend.
    pub backend: Arc<dyn KeyValue>,
    /// Dropped after it.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// A backend under test with one store in it.
pub struct TestedBackend {
    backend: Arc<dyn KeyValue>,
    now_ms: Arc<AtomicI64>,
    store: Arc<GuestStore>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl TestedBackend {
    /// Makes a backend at a time that only tests move.
    pub fn new(make: impl FnOnce(TestClock) -> MadeBackend) -> Self {
        let now_ms = Arc::new(AtomicI64::new(1_000_000));
        let clock = Arc::clone(&now_ms);
        let MadeBackend { backend, keep } = make(Arc::new(move || clock.load(SeqCst)));
        let store = Arc::new(GuestStore::new(StoreId(1), 1 << 30, 1_000_000));
        Self { backend, now_ms, store, _keep: keep }
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<dyn KeyValue> {
        &self.backend
    }

    /// The store.
    pub fn store(&self) -> &Arc<GuestStore> {
        &self.store
    }

    pub(crate) fn pass(&self, ms: i64) {
        self.now_ms.fetch_add(ms, SeqCst);
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Entry> {
        let slow = self.backend.get(&self.store, key).await.unwrap();
        if let Some(now) = self.backend.get_now(&self.store, key) {
            assert_eq!(now.unwrap(), slow, "both ways to read agree");
        }
        slow
    }

    pub(crate) async fn value(&self, key: &str) -> Option<Bytes> {
        self.get(key).await.map(|entry| entry.value)
    }

    pub(crate) async fn put(&self, key: &str, value: impl Into<Bytes>) -> Result<u64, Refused> {
        match self.put_with(put(key, value)).await? {
            Written::Version(version) => Ok(version),
            Written::Conflict(_) => panic!("anything was expected"),
        }
    }

    pub(crate) async fn put_with(&self, put: Put<'_>) -> Result<Written, Refused> {
        self.backend.put(&self.store, put).await
    }

    pub(crate) async fn increment(&self, key: &str, delta: i64) -> Result<i64, Refused> {
        self.backend.increment(&self.store, key, delta).await
    }

    pub(crate) async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Keys {
        self.backend.list(&self.store, KeyPage { prefix, after, limit }).await.unwrap()
    }

    pub(crate) async fn usage(&self) -> StoreUsage {
        self.backend.usage(&self.store).await.unwrap()
    }
}

pub(crate) fn put(key: &str, value: impl Into<Bytes>) -> Put<'_> {
    Put { key, value: value.into(), expect: Expect::Anything, ttl: None, metadata: None }
}
