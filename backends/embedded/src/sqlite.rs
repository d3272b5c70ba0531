//! Stores in one SQLite file.
//!
//! Small values are read on the calling thread. Everything else that reads waits for threads of its own
//! (`reading`), and all writes for one thread (`writing`), which commits for all that wait: there every
//! expectation, quota and counter is decided, in one order. What was answered survives a power cut. So a
//! disk that stalls delays only those who use a store.

mod entries;
mod file;
mod health;
mod pace;
mod reading;
mod turn;
mod writing;

use std::{io, path::Path};

use bytes::Bytes;
use runtime_pool::{
    Entry, Expect, GuestStore, KeyPage, KeyValue, Keys, Put, Refused, Removed, StoreAnswer,
    StoreId, StoreUsage, Written,
};

pub use self::file::{FILE_NAME, OpenError};
use self::{reading::Readers, turn::NewEntry, writing::StoreWriter};
use crate::rules::{self, Clock, Room};

/// Values up to this size are read on the calling thread. Arbitrary: some pages of the file.
const INLINE_BYTES: i64 = 64 << 10;
/// Entries that one write removes when a store is cleared, so that others get their turn.
const CLEARED: u32 = 1_000;

/// A backend whose stores are in one SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    clock: SqliteClock,
    readers: Readers,
    writer: StoreWriter,
}

/// How the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqliteState {
    /// Reads were so slow that none is made on the calling thread.
    pub is_slow: bool,
    /// Writes that wait for their turn.
    pub waiting_writes: usize,
}

struct SqliteClock(Clock);

impl std::fmt::Debug for SqliteClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SqliteClock")
    }
}

impl Sqlite {
    /// Opens the file `kv.db` in a directory, and starts its threads. Creates both where they are missing,
    /// the directory for this user alone.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, OpenError> {
        let path = file::create(dir)?;
        let writer = StoreWriter::start(file::open_writer(&path)?, clock.clone())?;
        let readers = Readers::start(path)?;
        Ok(Self { clock: SqliteClock(clock), readers, writer })
    }

    /// Ends the threads after what waits, and moves what was written into the file. Operations then fail
    /// with [`Refused::Unavailable`]. Blocks its thread.
    pub fn close(&self) {
        self.readers.close();
        self.writer.close();
    }

    /// Copies the file to one that does not exist yet, as it is when this begins. Nothing waits for it.
    /// Blocks its thread.
    ///
    /// # Errors
    ///
    /// Those of SQLite, as one of `io`.
    pub fn copy_to(&self, copy: &Path) -> io::Result<()> {
        file::copy(self.readers.path(), copy).map_err(|error| {
            let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
            let kind = if full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
            io::Error::new(kind, error)
        })
    }

    /// How the file does.
    pub fn state(&self) -> SqliteState {
        SqliteState { is_slow: self.readers.is_slow(), waiting_writes: self.writer.waiting() }
    }

    /// The stores of which there is something: also what is left of those that were deleted and not
    /// cleared before the process ended.
    ///
    /// # Errors
    ///
    /// [`Refused::Unavailable`], [`Refused::Busy`].
    pub async fn stores(&self) -> Result<Vec<StoreId>, Refused> {
        self.readers.read(entries::stores).await
    }

    fn now_ms(&self) -> i64 {
        (self.clock.0)()
    }

    async fn read(&self, store: &GuestStore, key: &str) -> Result<Option<Entry>, Refused> {
        if let Some(read) = self.get_now(store, key) {
            return read;
        }
        let (id, key, now_ms) = (store.id(), key.to_owned(), self.now_ms());
        self.readers.read(move |file| entries::entry(file, id, &key, now_ms)).await
    }
}

impl KeyValue for Sqlite {
    fn get_now(&self, store: &GuestStore, key: &str) -> Option<Result<Option<Entry>, Refused>> {
        if let Err(refused) = rules::check_exists(store) {
            return Some(Err(refused));
        }
        let now_ms = self.now_ms();
        // One that fails here is tried again where it may take its time.
        let read = self
            .readers
            .read_now(|file| entries::small(file, store.id(), key, now_ms, INLINE_BYTES))?;
        match read {
            entries::Small::Entry(entry) => Some(Ok(entry)),
            entries::Small::TooLarge => None,
        }
    }

    fn get<'a>(&'a self, store: &'a GuestStore, key: &'a str) -> StoreAnswer<'a, Option<Entry>> {
        Box::pin(self.read(store, key))
    }

    fn get_many<'a>(
        &'a self,
        store: &'a GuestStore,
        keys: &'a [String],
        bytes: u64,
    ) -> StoreAnswer<'a, Vec<Option<Entry>>> {
        Box::pin(async move {
            rules::check_exists(store)?;
            let (id, keys, now_ms) = (store.id(), keys.to_vec(), self.now_ms());
            let read = move |file: &_| entries::several(file, id, &keys, now_ms, bytes);
            self.readers.read(read).await?
        })
    }

    fn put<'a>(&'a self, store: &'a GuestStore, put: Put<'a>) -> StoreAnswer<'a, Written> {
        let Put { key, value, expect, ttl, metadata } = put;
        let (id, room) = (store.id(), Room::of(store));
        let (key, metadata) = (key.to_owned(), metadata.map(Into::into));
        let bytes = key.len() + value.len();
        Box::pin(async move {
            rules::check_exists(store)?;
            self.writer
                .write(bytes, move |turn| {
                    let expires_ms = rules::expiry(ttl, turn.now_ms());
                    turn.put((id, room), &key, &NewEntry { value, expires_ms, metadata }, expect)
                })
                .await
        })
    }

    fn delete<'a>(
        &'a self,
        store: &'a GuestStore,
        key: &'a str,
        expect: Expect,
    ) -> StoreAnswer<'a, Removed> {
        Box::pin(async move {
            rules::check_exists(store)?;
            let (id, key) = (store.id(), key.to_owned());
            self.writer.write(key.len(), move |turn| turn.delete(id, &key, expect)).await
        })
    }

    fn write_many<'a>(
        &'a self,
        store: &'a GuestStore,
        writes: Vec<(String, Option<Bytes>)>,
    ) -> StoreAnswer<'a, ()> {
        Box::pin(async move {
            rules::check_exists(store)?;
            let (id, room) = (store.id(), Room::of(store));
            let len = |(key, value): &(String, Option<Bytes>)| {
                key.len() + value.as_ref().map_or(0, Bytes::len)
            };
            let bytes = writes.iter().map(len).sum();
            self.writer.write(bytes, move |turn| turn.write_many((id, room), &writes)).await
        })
    }

    fn increment<'a>(
        &'a self,
        store: &'a GuestStore,
        key: &'a str,
        delta: i64,
    ) -> StoreAnswer<'a, i64> {
        Box::pin(async move {
            rules::check_exists(store)?;
            let (id, room, key) = (store.id(), Room::of(store), key.to_owned());
            let add = move |turn: &mut turn::WriteTurn<'_>| turn.increment((id, room), &key, delta);
            self.writer.write(0, add).await
        })
    }

    fn list<'a>(&'a self, store: &'a GuestStore, page: KeyPage<'a>) -> StoreAnswer<'a, Keys> {
        Box::pin(async move {
            rules::check_exists(store)?;
            let (id, now_ms, limit) = (store.id(), self.now_ms(), page.limit);
            let (prefix, after) = (page.prefix.to_owned(), page.after.map(str::to_owned));
            let list = move |file: &_| {
                let page = KeyPage { prefix: &prefix, after: after.as_deref(), limit };
                entries::list(file, id, page, now_ms)
            };
            self.readers.read(list).await
        })
    }

    fn usage<'a>(&'a self, store: &'a GuestStore) -> StoreAnswer<'a, StoreUsage> {
        let id = store.id();
        Box::pin(self.readers.read(move |file| Ok(entries::used(file, id)?.usage)))
    }

    fn clear<'a>(&'a self, store: &'a GuestStore) -> StoreAnswer<'a, ()> {
        Box::pin(async move {
            let (id, forget) = (store.id(), store.is_deleted());
            while !self.writer.write(0, move |turn| turn.clear(id, CLEARED, forget)).await? {}
            Ok(())
        })
    }
}
