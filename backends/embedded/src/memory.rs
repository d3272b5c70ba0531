//! Stores in memory. They are fast, and empty after each start.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    future::ready,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use runtime_pool::{
    Entry, Expect, GuestStore, KeyPage, KeyValue, Keys, ListedKey, Put, Refused, Removed,
    StoreAnswer, StoreId, StoreUsage, Written,
};

use crate::rules::{self, Clock, Room};

/// Expired entries that one operation removes at most, so that none takes long.
const SWEPT: usize = 100;

/// A backend in memory. All of its stores have an upper limit together, besides their quotas.
pub struct Memory {
    clock: Clock,
    bytes_max: u64,
    stores: Mutex<MemoryStores>,
}

#[derive(Default)]
struct MemoryStores {
    /// Bytes of all stores.
    bytes: u64,
    by_id: HashMap<StoreId, MemoryStore>,
}

#[derive(Default)]
struct MemoryStore {
    entries: BTreeMap<String, Entry>,
    /// Keys by the time when they expire.
    expiring: BTreeSet<(i64, String)>,
    bytes: u64,
    /// The version that was given last.
    version: u64,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

impl Memory {
    /// A backend whose stores have at most so many bytes together.
    pub fn new(clock: Clock, bytes_max: u64) -> Self {
        Self { clock, bytes_max, stores: Mutex::default() }
    }

    /// The stores, whatever became of a thread that had them: every change of them is whole.
    fn stores(&self) -> MutexGuard<'_, MemoryStores> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, store: &GuestStore, key: &str) -> Result<Option<Entry>, Refused> {
        rules::check_exists(store)?;
        let now_ms = (self.clock)();
        Ok(self.stores().by_id.get(&store.id()).and_then(|stored| stored.live(key, now_ms)))
    }

    /// Changes a store, after some of what has expired was removed.
    fn change<T>(
        &self,
        store: &GuestStore,
        change: impl FnOnce(&mut MemoryTurn<'_>) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let now_ms = (self.clock)();
        let mut stores = self.stores();
        // Looked at while no other operation runs: what is written to a deleted store stays forever.
        rules::check_exists(store)?;
        let MemoryStores { bytes, by_id } = &mut *stores;
        let stored = by_id.entry(store.id()).or_default();
        let others = *bytes - stored.bytes;
        stored.sweep(now_ms);
        let most = self.bytes_max;
        let outcome =
            change(&mut MemoryTurn { stored, room: Room::of(store), others, most, now_ms });
        *bytes = others + stored.bytes;
        outcome
    }
}

impl KeyValue for Memory {
    fn get_now(&self, store: &GuestStore, key: &str) -> Option<Result<Option<Entry>, Refused>> {
        Some(self.read(store, key))
    }

    fn get<'a>(&'a self, store: &'a GuestStore, key: &'a str) -> StoreAnswer<'a, Option<Entry>> {
        Box::pin(ready(self.read(store, key)))
    }

    fn get_many<'a>(
        &'a self,
        store: &'a GuestStore,
        keys: &'a [String],
        bytes: u64,
    ) -> StoreAnswer<'a, Vec<Option<Entry>>> {
        let read = || {
            let (mut left, mut entries) = (bytes, Vec::with_capacity(keys.len()));
            for key in keys {
                let entry = self.read(store, key)?;
                let len = entry.as_ref().map_or(0, |entry| entry.value.len() as u64);
                left = rules::left(left, len, bytes)?;
                entries.push(entry);
            }
            Ok(entries)
        };
        Box::pin(ready(read()))
    }

    fn put<'a>(&'a self, store: &'a GuestStore, put: Put<'a>) -> StoreAnswer<'a, Written> {
        Box::pin(ready(self.change(store, |turn| turn.put(put))))
    }

    fn delete<'a>(
        &'a self,
        store: &'a GuestStore,
        key: &'a str,
        expect: Expect,
    ) -> StoreAnswer<'a, Removed> {
        Box::pin(ready(self.change(store, |turn| Ok(turn.delete(key, expect)))))
    }

    fn write_many<'a>(
        &'a self,
        store: &'a GuestStore,
        writes: Vec<(String, Option<Bytes>)>,
    ) -> StoreAnswer<'a, ()> {
        Box::pin(ready(self.change(store, |turn| turn.write_many(writes))))
    }

    fn increment<'a>(
        &'a self,
        store: &'a GuestStore,
        key: &'a str,
        delta: i64,
    ) -> StoreAnswer<'a, i64> {
        Box::pin(ready(self.change(store, |turn| turn.increment(key, delta))))
    }

    fn list<'a>(&'a self, store: &'a GuestStore, page: KeyPage<'a>) -> StoreAnswer<'a, Keys> {
        let list = || {
            rules::check_exists(store)?;
            let now_ms = (self.clock)();
            Ok(self
                .stores()
                .by_id
                .get(&store.id())
                .map_or_else(Keys::default, |stored| stored.list(page, now_ms)))
        };
        Box::pin(ready(list()))
    }

    fn usage<'a>(&'a self, store: &'a GuestStore) -> StoreAnswer<'a, StoreUsage> {
        let stores = self.stores();
        let usage =
            stores.by_id.get(&store.id()).map_or_else(StoreUsage::default, MemoryStore::usage);
        Box::pin(ready(Ok(usage)))
    }

    fn clear<'a>(&'a self, store: &'a GuestStore) -> StoreAnswer<'a, ()> {
        let mut stores = self.stores();
        let cleared = match stores.by_id.remove(&store.id()) {
            None => 0,
            Some(stored) => {
                // Versions go on: who has read an entry before must not take another one for it.
                if !store.is_deleted() {
                    let kept = MemoryStore { version: stored.version, ..MemoryStore::default() };
                    stores.by_id.insert(store.id(), kept);
                }
                stored.bytes
            }
        };
        stores.bytes -= cleared;
        Box::pin(ready(Ok(())))
    }
}

impl MemoryStore {
    fn usage(&self) -> StoreUsage {
        StoreUsage { bytes: self.bytes, keys: self.entries.len() as u64 }
    }

    fn live(&self, key: &str, now_ms: i64) -> Option<Entry> {
        self.entries.get(key).filter(|entry| rules::is_live(entry.expires_ms, now_ms)).cloned()
    }

    fn list(&self, page: KeyPage<'_>, now_ms: i64) -> Keys {
        let first = page.after.map_or_else(|| page.prefix.to_owned(), |after| format!("{after}\0"));
        let first = first.max(page.prefix.to_owned());
        let mut found = self
            .entries
            .range(first..)
            .take_while(|(key, _)| key.starts_with(page.prefix))
            .filter(|(_, entry)| rules::is_live(entry.expires_ms, now_ms));
        let keys = found
            .by_ref()
            .take(page.limit)
            .map(|(key, entry)| ListedKey {
                name: key.clone(),
                expires_ms: entry.expires_ms,
                metadata: entry.metadata.clone(),
            })
            .collect();
        Keys { keys, more: found.next().is_some() }
    }

    fn sweep(&mut self, now_ms: i64) {
        for _ in 0..SWEPT {
            match self.expiring.first() {
                Some((at, _)) if !rules::is_live(Some(*at), now_ms) => {}
                _ => return,
            }
            if let Some((_, key)) = self.expiring.pop_first() {
                self.set(&key, None);
            }
        }
    }

    /// Sets an entry, or removes it. Returns what was there.
    fn set(&mut self, key: &str, entry: Option<Entry>) -> Option<Entry> {
        let size = |entry: &Entry| rules::size(key, &entry.value, entry.metadata.as_deref());
        if let Some(entry) = &entry {
            self.bytes += size(entry);
            self.expiring.extend(entry.expires_ms.map(|at| (at, key.to_owned())));
        }
        let expires_ms = entry.as_ref().and_then(|entry| entry.expires_ms);
        let before = match entry {
            Some(entry) => self.entries.insert(key.to_owned(), entry),
            None => self.entries.remove(key),
        };
        if let Some(before) = &before {
            self.bytes -= size(before);
            if let Some(at) = before.expires_ms.filter(|at| Some(*at) != expires_ms) {
                self.expiring.remove(&(at, key.to_owned()));
            }
        }
        before
    }
}

/// One change of one store.
struct MemoryTurn<'a> {
    stored: &'a mut MemoryStore,
    room: Room,
    /// Bytes of the other stores.
    others: u64,
    /// The most bytes of all stores.
    most: u64,
    now_ms: i64,
}

impl MemoryTurn<'_> {
    fn put(&mut self, put: Put<'_>) -> Result<Written, Refused> {
        let before = self.stored.live(put.key, self.now_ms);
        if !rules::is_as_expected(put.expect, before.as_ref().map(|entry| entry.version)) {
            return Ok(Written::Conflict(before));
        }
        let entry = Entry {
            value: put.value,
            version: 0,
            expires_ms: rules::expiry(put.ttl, self.now_ms),
            metadata: put.metadata.map(Into::into),
        };
        self.write(vec![(put.key.to_owned(), Some(entry))])?;
        Ok(Written::Version(self.stored.version))
    }

    fn delete(&mut self, key: &str, expect: Expect) -> Removed {
        let version = self.stored.live(key, self.now_ms).map(|entry| entry.version);
        if !rules::is_as_expected(expect, version) {
            return Removed::Conflict;
        }
        self.stored.set(key, None);
        if version.is_some() { Removed::Entry } else { Removed::Nothing }
    }

    fn write_many(&mut self, writes: Vec<(String, Option<Bytes>)>) -> Result<(), Refused> {
        let entry = |value| Entry { value, version: 0, expires_ms: None, metadata: None };
        self.write(writes.into_iter().map(|(key, value)| (key, value.map(entry))).collect())
    }

    fn increment(&mut self, key: &str, delta: i64) -> Result<i64, Refused> {
        let before = self.stored.live(key, self.now_ms);
        let sum = rules::count(before.as_ref().map(|entry| &*entry.value), delta)?;
        let (expires_ms, metadata) =
            before.map_or((None, None), |entry| (entry.expires_ms, entry.metadata));
        let entry = Entry { value: sum.to_string().into(), version: 0, expires_ms, metadata };
        self.write(vec![(key.to_owned(), Some(entry))])?;
        Ok(sum)
    }

    /// Writes and removes entries: all, or none if there is no room for them.
    fn write(&mut self, writes: Vec<(String, Option<Entry>)>) -> Result<(), Refused> {
        let usage = self.stored.usage();
        let mut undo = Vec::with_capacity(writes.len());
        for (key, entry) in writes {
            let version = self.stored.version + 1;
            let entry = entry.map(|entry| Entry { version, ..entry });
            self.stored.version = version;
            let before = self.stored.set(&key, entry);
            undo.push((key, before));
        }
        let refused =
            self.room.check(usage, self.stored.usage()).and_then(|()| self.check_all(usage));
        if refused.is_err() {
            for (key, before) in undo.into_iter().rev() {
                self.stored.set(&key, before);
            }
        }
        refused
    }

    fn check_all(&self, before: StoreUsage) -> Result<(), Refused> {
        let bytes = self.stored.bytes;
        if bytes > before.bytes && self.others + bytes > self.most {
            let what = "bytes, together with all other stores in memory";
            return Err(Refused::Quota { what, most: self.most });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn all_stores_in_memory_have_a_limit_together() {
        let memory = Memory::new(Arc::new(|| 0), 10);
        let [one, two] = [1, 2].map(|id| GuestStore::new(StoreId(id), u64::MAX, u64::MAX));
        let put = |key| Put {
            key,
            value: "1234".into(),
            expect: Expect::Anything,
            ttl: None,
            metadata: None,
        };

        memory.put(&one, put("a")).await.unwrap();
        memory.put(&two, put("a")).await.unwrap();
        let refused = memory.put(&two, put("b")).await;
        memory.clear(&one).await.unwrap();

        assert!(matches!(refused, Err(Refused::Quota { most: 10, .. })), "{refused:?}");
        memory.put(&two, put("b")).await.unwrap();
    }
}
