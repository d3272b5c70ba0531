//! Writes of several callers in one transaction: each sees what those before it have written.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use runtime_pool::{Expect, Refused, Removed, StoreId, Written};
use rusqlite::{Connection, OptionalExtension as _, Result, params};

use crate::{
    rules::{self, Room},
    sqlite::entries::{self, UsedSpace, count, number},
};

/// Expired entries that a write removes when its store is full.
const SWEPT: u32 = 1_000;

/// The outcome of a write: an error of SQLite ends the whole transaction, a refusal only this write.
pub(super) type WriteOutcome<T> = Result<Result<T, Refused>>;

/// An open transaction. What the stores have is kept here until its end, and written once.
pub(super) struct WriteTurn<'a> {
    file: &'a Connection,
    now_ms: i64,
    used: HashMap<StoreId, UsedSpace>,
}

/// What a write puts under a key.
pub(super) struct NewEntry {
    pub(super) value: Bytes,
    pub(super) expires_ms: Option<i64>,
    pub(super) metadata: Option<Arc<str>>,
}

/// What is under a key, without its value.
struct Head {
    row: i64,
    version: u64,
    expires_ms: Option<i64>,
    size: u64,
}

impl<'a> WriteTurn<'a> {
    pub(super) fn new(file: &'a Connection, now_ms: i64) -> Self {
        Self { file, now_ms, used: HashMap::new() }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Writes what the stores have now. The transaction is then ready to be committed.
    pub(super) fn finish(self) -> Result<()> {
        let mut statement = self.file.prepare_cached(
            "INSERT INTO usage (store, keys, bytes, version) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (store) DO UPDATE SET keys = ?2, bytes = ?3, version = ?4",
        )?;
        for (store, UsedSpace { usage, version }) in self.used {
            let (keys, bytes, version) = (number(usage.keys), number(usage.bytes), number(version));
            statement.execute([store.0, keys, bytes, version])?;
        }
        Ok(())
    }

    /// Writes an entry if what is there is as expected.
    pub(super) fn put(
        &mut self,
        (store, room): (StoreId, Room),
        key: &str,
        new: &NewEntry,
        expect: Expect,
    ) -> WriteOutcome<Written> {
        let version = self.live(store, key)?.map(|head| head.version);
        if !rules::is_as_expected(expect, version) {
            let found = entries::entry(self.file, store, key, self.now_ms)?;
            return Ok(Ok(Written::Conflict(found)));
        }
        let set = self.with_room(|turn| turn.set((store, room), key, new))?;
        Ok(set.map(Written::Version))
    }

    /// Removes an entry if what is there is as expected.
    pub(super) fn delete(
        &mut self,
        store: StoreId,
        key: &str,
        expect: Expect,
    ) -> WriteOutcome<Removed> {
        let version = self.live(store, key)?.map(|head| head.version);
        if !rules::is_as_expected(expect, version) {
            return Ok(Ok(Removed::Conflict));
        }
        self.remove(store, key)?;
        Ok(Ok(if version.is_some() { Removed::Entry } else { Removed::Nothing }))
    }

    /// Writes and removes several entries: all, or none if there is no room for them.
    pub(super) fn write_many(
        &mut self,
        (store, room): (StoreId, Room),
        writes: &[(String, Option<Bytes>)],
    ) -> WriteOutcome<()> {
        self.with_room(|turn| {
            let before = turn.used(store)?;
            turn.file.prepare_cached("SAVEPOINT several")?.execute([])?;
            for (key, value) in writes {
                match value {
                    Some(value) => {
                        let (expires_ms, metadata) = (None, None);
                        let new = NewEntry { value: value.clone(), expires_ms, metadata };
                        turn.write(store, key, &new)?;
                    }
                    None => turn.remove(store, key)?,
                }
            }
            let after = turn.used(store)?;
            let checked = room.check(before.usage, after.usage);
            if checked.is_err() {
                turn.file.prepare_cached("ROLLBACK TO several")?.execute([])?;
                turn.used.insert(store, UsedSpace { version: after.version, ..before });
            }
            turn.file.prepare_cached("RELEASE several")?.execute([])?;
            Ok(checked)
        })
    }

    /// Adds to a counter. It keeps its expiry and its metadata.
    pub(super) fn increment(
        &mut self,
        (store, room): (StoreId, Room),
        key: &str,
        delta: i64,
    ) -> WriteOutcome<i64> {
        let before = entries::entry(self.file, store, key, self.now_ms)?;
        let sum = match rules::count(before.as_ref().map(|entry| &*entry.value), delta) {
            Ok(sum) => sum,
            Err(refused) => return Ok(Err(refused)),
        };
        let (expires_ms, metadata) =
            before.map_or((None, None), |entry| (entry.expires_ms, entry.metadata));
        let new = NewEntry { value: sum.to_string().into(), expires_ms, metadata };
        let set = self.with_room(|turn| turn.set((store, room), key, &new))?;
        Ok(set.map(|_version| sum))
    }

    /// Removes at most so many entries of a store. Returns whether it is empty; then it is forgotten, too,
    /// if it must be.
    pub(super) fn clear(&mut self, store: StoreId, limit: u32, forget: bool) -> WriteOutcome<bool> {
        let removed = self.removed(
            "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries WHERE store = ?1 LIMIT ?2) \
             RETURNING store, octet_length(key) + octet_length(value) + coalesce(octet_length(metadata), 0)",
            (store.0, limit),
        )?;
        let is_empty = removed < limit;
        if is_empty && forget {
            self.used.remove(&store);
            self.file.prepare_cached("DELETE FROM usage WHERE store = ?1")?.execute([store.0])?;
        }
        Ok(Ok(is_empty))
    }

    /// Removes at most so many entries that have expired. Returns how many there were.
    pub(super) fn sweep(&mut self, limit: u32) -> Result<u32> {
        self.removed(
            "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries \
             INDEXED BY entries_by_expiry WHERE expires_ms <= ?1 LIMIT ?2) \
             RETURNING store, octet_length(key) + octet_length(value) + coalesce(octet_length(metadata), 0)",
            (self.now_ms, limit),
        )
    }

    /// Executes a removal that returns the store and the size of each entry.
    fn removed(&mut self, sql: &str, of: (i64, u32)) -> Result<u32> {
        let mut statement = self.file.prepare_cached(sql)?;
        let rows = statement
            .query_map(params![of.0, of.1], |row| Ok((StoreId(row.get(0)?), count(row, 1)?)))?;
        let rows = rows.collect::<Result<Vec<_>>>()?;
        for (store, size) in &rows {
            self.replaced(*store, Some(*size), None)?;
        }
        Ok(u32::try_from(rows.len()).unwrap_or(u32::MAX))
    }

    /// Tries a write again after what has expired was removed, if there was no room for it.
    fn with_room<T>(
        &mut self,
        mut write: impl FnMut(&mut Self) -> WriteOutcome<T>,
    ) -> WriteOutcome<T> {
        let outcome = write(self)?;
        if matches!(outcome, Err(Refused::Quota { .. })) && self.sweep(SWEPT)? > 0 {
            return write(self);
        }
        Ok(outcome)
    }

    /// Writes an entry if there is room for it. Returns its version.
    fn set(
        &mut self,
        (store, room): (StoreId, Room),
        key: &str,
        new: &NewEntry,
    ) -> WriteOutcome<u64> {
        let before = self.used(store)?.usage;
        let old = self.head(store, key)?.map(|head| head.size);
        let size = rules::size(key, &new.value, new.metadata.as_deref());
        if let Err(refused) = room.check(before, rules::replaced(before, old, Some(size))) {
            return Ok(Err(refused));
        }
        self.write(store, key, new).map(Ok)
    }

    fn write(&mut self, store: StoreId, key: &str, new: &NewEntry) -> Result<u64> {
        let old = self.head(store, key)?;
        let size = rules::size(key, &new.value, new.metadata.as_deref());
        let version = self.replaced(store, old.map(|head| head.size), Some(size))?;
        let mut statement = self.file.prepare_cached(
            "INSERT INTO entries (store, key, value, version, expires_ms, metadata) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (store, key) DO UPDATE SET \
             value = ?3, version = ?4, expires_ms = ?5, metadata = ?6",
        )?;
        let (value, metadata) = (&*new.value, new.metadata.as_deref());
        let version_of_row = number(version);
        statement.execute(params![
            store.0,
            key.as_bytes(),
            value,
            version_of_row,
            new.expires_ms,
            metadata
        ])?;
        Ok(version)
    }

    fn remove(&mut self, store: StoreId, key: &str) -> Result<()> {
        if let Some(head) = self.head(store, key)? {
            self.replaced(store, Some(head.size), None)?;
            self.file
                .prepare_cached("DELETE FROM entries WHERE rowid = ?1")?
                .execute([head.row])?;
        }
        Ok(())
    }

    /// What is under a key and has not expired.
    fn live(&self, store: StoreId, key: &str) -> Result<Option<Head>> {
        let head = self.head(store, key)?;
        Ok(head.filter(|head| rules::is_live(head.expires_ms, self.now_ms)))
    }

    fn head(&self, store: StoreId, key: &str) -> Result<Option<Head>> {
        let mut statement = self.file.prepare_cached(
            "SELECT rowid, version, expires_ms, \
             octet_length(key) + octet_length(value) + coalesce(octet_length(metadata), 0) \
             FROM entries WHERE store = ?1 AND key = ?2",
        )?;
        let head = statement.query_row(params![store.0, key.as_bytes()], |row| {
            let (version, size) = (count(row, 1)?, count(row, 3)?);
            Ok(Head { row: row.get(0)?, version, expires_ms: row.get(2)?, size })
        });
        head.optional()
    }

    fn used(&mut self, store: StoreId) -> Result<UsedSpace> {
        if let Some(used) = self.used.get(&store) {
            return Ok(*used);
        }
        let used = entries::used(self.file, store)?;
        self.used.insert(store, used);
        Ok(used)
    }

    /// Counts that an entry of this size, or none, was replaced by one of that size, or none. Returns the
    /// version of the change.
    fn replaced(&mut self, store: StoreId, old: Option<u64>, new: Option<u64>) -> Result<u64> {
        let UsedSpace { usage, version } = self.used(store)?;
        let version = version + 1;
        self.used.insert(store, UsedSpace { usage: rules::replaced(usage, old, new), version });
        Ok(version)
    }
}
