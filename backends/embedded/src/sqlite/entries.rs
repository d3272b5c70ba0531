//! What is read, as statements.

use std::sync::Arc;

use bytes::Bytes;
use runtime_pool::{Entry, KeyPage, Keys, ListedKey, Refused, StoreId, StoreUsage};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use crate::rules;

/// An entry that may be too large for its reader.
pub(super) enum Small {
    Entry(Option<Entry>),
    TooLarge,
}

/// What the file has of a store.
#[derive(Clone, Copy, Default)]
pub(super) struct UsedSpace {
    pub(super) usage: StoreUsage,
    /// The version that was given last.
    pub(super) version: u64,
}

/// A whole number as SQLite keeps it. Those here are counts and sizes.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A whole number of SQLite that is never negative.
pub(super) fn count(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

/// Reads an entry if its value has at most so many bytes.
pub(super) fn small(
    file: &Connection,
    store: StoreId,
    key: &str,
    now_ms: i64,
    bytes_max: i64,
) -> Result<Small> {
    // A value that is too large is not even read from the disk: `length` knows it from the row's head.
    let mut statement = file.prepare_cached(
        "SELECT CASE WHEN length(value) <= ?3 THEN value END, version, expires_ms, metadata \
         FROM entries WHERE store = ?1 AND key = ?2",
    )?;
    let mut rows = statement.query(params![store.0, key.as_bytes(), bytes_max])?;
    let Some(row) = rows.next()? else { return Ok(Small::Entry(None)) };
    let expires_ms: Option<i64> = row.get(2)?;
    if !rules::is_live(expires_ms, now_ms) {
        return Ok(Small::Entry(None));
    }
    let Some(value) = row.get_ref(0)?.as_blob_or_null()? else { return Ok(Small::TooLarge) };
    let value = Bytes::copy_from_slice(value);
    let (version, metadata) = (count(row, 1)?, row.get::<_, Option<Arc<str>>>(3)?);
    Ok(Small::Entry(Some(Entry { value, version, expires_ms, metadata })))
}

/// Reads an entry.
pub(super) fn entry(
    file: &Connection,
    store: StoreId,
    key: &str,
    now_ms: i64,
) -> Result<Option<Entry>> {
    match small(file, store, key, now_ms, i64::MAX)? {
        Small::Entry(entry) => Ok(entry),
        // No value is larger.
        Small::TooLarge => Ok(None),
    }
}

/// Reads several entries as they are at one moment.
pub(super) fn several(
    file: &Connection,
    store: StoreId,
    keys: &[String],
    now_ms: i64,
    bytes_max: u64,
) -> Result<Result<Vec<Option<Entry>>, Refused>> {
    // Dropped without a commit: it has changed nothing.
    let moment = file.unchecked_transaction()?;
    let (mut left, mut entries) = (bytes_max, Vec::with_capacity(keys.len()));
    for key in keys {
        let found = match small(&moment, store, key, now_ms, number(left))? {
            Small::Entry(found) => found,
            Small::TooLarge => return Ok(rules::left(0, 1, bytes_max).map(|_| entries)),
        };
        left -= found.as_ref().map_or(0, |entry| entry.value.len() as u64);
        entries.push(found);
    }
    Ok(Ok(entries))
}

/// Lists keys in the order of their bytes.
pub(super) fn list(
    file: &Connection,
    store: StoreId,
    page: KeyPage<'_>,
    now_ms: i64,
) -> Result<Keys> {
    // The next text after `after`, in the order of bytes.
    let after = page.after.map(|after| [after.as_bytes(), b"\0"].concat());
    let first = after.unwrap_or_default().max(page.prefix.as_bytes().to_vec());
    // No byte of a text is 255: every key with the prefix comes before this.
    let end = [page.prefix.as_bytes(), b"\xff"].concat();
    let mut statement = file.prepare_cached(
        "SELECT key, expires_ms, metadata FROM entries \
         WHERE store = ?1 AND key >= ?2 AND key < ?3 AND (expires_ms IS NULL OR expires_ms > ?4) \
         ORDER BY key LIMIT ?5",
    )?;
    // One more shows whether there is another page.
    let limit = number(page.limit as u64).saturating_add(1);
    let rows = statement.query_map(params![store.0, first, end, now_ms, limit], |row| {
        let name = String::from_utf8_lossy(row.get_ref(0)?.as_blob()?).into_owned();
        Ok(ListedKey { name, expires_ms: row.get(1)?, metadata: row.get(2)? })
    })?;
    let mut keys = rows.collect::<Result<Vec<_>>>()?;
    let more = keys.len() > page.limit;
    keys.truncate(page.limit);
    Ok(Keys { keys, more })
}

/// What the file has of a store.
pub(super) fn used(file: &Connection, store: StoreId) -> Result<UsedSpace> {
    let mut statement =
        file.prepare_cached("SELECT keys, bytes, version FROM usage WHERE store = ?1")?;
    let used = statement.query_row([store.0], |row| {
        let usage = StoreUsage { keys: count(row, 0)?, bytes: count(row, 1)? };
        Ok(UsedSpace { usage, version: count(row, 2)? })
    });
    Ok(used.optional()?.unwrap_or_default())
}

/// The stores of which the file has something.
pub(super) fn stores(file: &Connection) -> Result<Vec<StoreId>> {
    let mut statement = file.prepare("SELECT store FROM usage ORDER BY store")?;
    statement.query_map([], |row| Ok(StoreId(row.get(0)?)))?.collect()
}
