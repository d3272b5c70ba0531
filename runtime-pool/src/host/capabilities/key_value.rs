//! The seam to stores of keys and values.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{guest_store::GuestStore, refused::Refused};

/// The outcome of an operation on a store. The operation ends when this is dropped, or goes on in the
/// background: a guest that is gone does not learn which.
pub type StoreAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refused>> + Send + 'a>>;

/// A backend for stores of keys and values.
///
/// Keys are any text, and sorted by their bytes. Operations on one store happen one after the other, in an
/// order that everyone sees; a write that was answered is as durable as the backend promises. A backend
/// enforces the quota of a store, and forgets what has expired; it is given only keys and values of
/// allowed sizes.
pub trait KeyValue: Send + Sync + 'static {
    /// Reads an entry if that needs no waiting. `None`: ask [`get`](KeyValue::get).
    fn get_now(&self, store: &GuestStore, key: &str) -> Option<Result<Option<Entry>, Refused>>;

    /// Reads an entry.
    fn get<'a>(&'a self, store: &'a GuestStore, key: &'a str) -> StoreAnswer<'a, Option<Entry>>;

    /// Reads several entries, in the order of the keys. Together they have at most `bytes` bytes, or this
    /// fails with [`Refused::TooLarge`].
    fn get_many<'a>(
        &'a self,
        store: &'a GuestStore,
        keys: &'a [String],
        bytes: u64,
    ) -> StoreAnswer<'a, Vec<Option<Entry>>>;

    /// Writes an entry if what is there is as expected.
    fn put<'a>(&'a self, store: &'a GuestStore, put: Put<'a>) -> StoreAnswer<'a, Written>;

    /// Removes an entry if what is there is as expected.
    fn delete<'a>(
        &'a self,
        store: &'a GuestStore,
        key: &'a str,
        expect: Expect,
    ) -> StoreAnswer<'a, Removed>;

    /// Writes and removes (`None`) several entries: all of them or none, where the backend can.
    fn write_many<'a>(
        &'a self,
        store: &'a GuestStore,
        writes: Vec<(String, Option<Bytes>)>,
    ) -> StoreAnswer<'a, ()>;

    /// Adds to a counter, which is decimal text, and 0 where there is no entry. Returns its new value. Fails
    /// with [`Refused::Invalid`] if there is something else than a counter, or if the sum has no place in
    /// 64 bits.
    fn increment<'a>(
        &'a self,
        store: &'a GuestStore,
        key: &'a str,
        delta: i64,
    ) -> StoreAnswer<'a, i64>;

    /// Lists keys in the order of their bytes.
    fn list<'a>(&'a self, store: &'a GuestStore, page: KeyPage<'a>) -> StoreAnswer<'a, Keys>;

    /// What the store has now.
    fn usage<'a>(&'a self, store: &'a GuestStore) -> StoreAnswer<'a, StoreUsage>;

    /// Removes everything of a store. It may take long, and goes on after a crash when it is asked again.
    fn clear<'a>(&'a self, store: &'a GuestStore) -> StoreAnswer<'a, ()>;
}

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Any bytes.
    pub value: Bytes,
    /// Another one after each write of the key, and greater. Never 0.
    pub version: u64,
    /// When it expires, in Unix milliseconds.
    pub expires_ms: Option<i64>,
    /// A text that its writer gave.
    pub metadata: Option<Arc<str>>,
}

/// What a write expects to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything, or nothing.
    Anything,
    /// Nothing.
    Absent,
    /// The entry with this version.
    Version(u64),
}

/// A write of an entry.
#[derive(Clone, Debug)]
pub struct Put<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its value.
    pub value: Bytes,
    /// What must be there before.
    pub expect: Expect,
    /// When it expires; never without it.
    pub ttl: Option<Duration>,
    /// A text to keep with it.
    pub metadata: Option<&'a str>,
}

/// The outcome of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The entry has this version now.
    Version(u64),
    /// Something else than expected is there: this, or nothing.
    Conflict(Option<Entry>),
}

/// The outcome of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// There was an entry.
    Entry,
    /// There was none.
    Nothing,
    /// Something else than expected is there.
    Conflict,
}

/// Which keys to list.
#[derive(Clone, Copy, Debug)]
pub struct KeyPage<'a> {
    /// What they begin with.
    pub prefix: &'a str,
    /// The key after which the page begins.
    pub after: Option<&'a str>,
    /// The most keys.
    pub limit: usize,
}

/// A page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The keys, with what is known of each.
    pub keys: Vec<ListedKey>,
    /// Whether there may be more.
    pub more: bool,
}

/// A key in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// The key.
    pub name: String,
    /// When it expires, in Unix milliseconds.
    pub expires_ms: Option<i64>,
    /// The text that its writer gave.
    pub metadata: Option<Arc<str>>,
}

/// What a store has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Bytes of all keys, values and texts.
    pub bytes: u64,
    /// Entries that have not expired, or were not yet removed since.
    pub keys: u64,
}
