//! An opened store of keys and values, and what guests do with it. The interfaces, each in its own words,
//! are made of these operations.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use wasmtime::component::Resource;

use super::{
    answer::StoreOutcome,
    function::OpenPart,
    grants::AllowedAccess,
    invocation::{CapabilitiesView, StoreOperation},
    key_value::{Entry, Expect, KeyPage, Keys, Put, Removed, Written},
    refused::Refused,
};
use crate::{host::store_limits::Held, limits::GuestLimits};

/// Bytes of the text that a writer keeps with an entry. Workers' key-value stores allow as many.
pub const METADATA_BYTES: usize = 1 << 10;
/// The longest time after which an entry expires: ten years. It only catches a slip.
const TTL_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);
/// Keys of one page, and of one operation on several keys.
const KEYS_AT_ONCE: usize = 1_000;
/// What a key in a list takes besides its bytes.
const LISTED_KEY_BYTES: usize = 64;
/// Pages of a list that a handle can go on from, where the interface numbers them.
const PAGES: usize = 8;

const GET: StoreOperation = StoreOperation { word: "get", needs: AllowedAccess::Read };
const EXISTS: StoreOperation = StoreOperation { word: "exists", needs: AllowedAccess::Read };
const GET_MANY: StoreOperation = StoreOperation { word: "get-many", needs: AllowedAccess::Read };
const LIST: StoreOperation = StoreOperation { word: "list", needs: AllowedAccess::Read };
const PUT: StoreOperation = StoreOperation { word: "set", needs: AllowedAccess::Write };
const DELETE: StoreOperation = StoreOperation { word: "delete", needs: AllowedAccess::Write };
const WRITE_MANY: StoreOperation =
    StoreOperation { word: "write-many", needs: AllowedAccess::Write };
// Its answer tells what was there.
const INCREMENT: StoreOperation =
    StoreOperation { word: "increment", needs: AllowedAccess::ReadWrite };
const SWAP: StoreOperation = StoreOperation { word: "swap", needs: AllowedAccess::ReadWrite };

/// An opened store.
pub(crate) struct Bucket {
    part: OpenPart,
    /// The last keys of the pages that were listed, by their numbers.
    pages: VecDeque<(u64, String)>,
    pages_listed: u64,
}

/// An entry as it was, to be replaced only if it still is.
pub(crate) struct Cas {
    part: OpenPart,
    /// The whole key.
    key: String,
    entry: Option<Entry>,
    _held: Held,
}

/// What a guest asks to be written.
#[derive(Default)]
pub(super) struct EntryWrite {
    pub(super) value: Bytes,
    /// The version that must be there; 0 stands for nothing.
    pub(super) if_version: Option<u64>,
    pub(super) ttl: Option<Duration>,
    pub(super) metadata: Option<String>,
}

/// The entry that a [`Cas`] is made of.
pub(super) struct ComparedEntry {
    part: OpenPart,
    key: String,
    entry: Option<Entry>,
}

/// Keys, each with its value if there is one.
pub(super) type FoundValues = Vec<(String, Option<Bytes>)>;

fn expected(version: Option<u64>) -> Expect {
    match version {
        None => Expect::Anything,
        Some(0) => Expect::Absent,
        Some(version) => Expect::Version(version),
    }
}

/// Keys of one page: so many that the longest of them fit into one answer.
fn page_keys(limits: &GuestLimits) -> usize {
    let key = limits.store_key_bytes + METADATA_BYTES + LISTED_KEY_BYTES;
    (limits.store_answer_bytes / key).clamp(1, KEYS_AT_ONCE)
}

impl CapabilitiesView<'_> {
    /// Opens a store by its label.
    pub(super) fn open_bucket(&mut self, label: &str) -> Result<Bucket, Refused> {
        let part = self.open(label)?;
        Ok(Bucket { part, pages: VecDeque::new(), pages_listed: 0 })
    }

    fn part(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<OpenPart> {
        Ok(self.table.get(bucket)?.part.clone())
    }

    /// Reads an entry.
    pub(super) fn get(
        &mut self,
        bucket: &Resource<Bucket>,
        key: &str,
    ) -> wasmtime::Result<StoreOutcome<Option<Entry>>> {
        let part = self.part(bucket)?;
        Ok(self.read(&part, GET, key))
    }

    /// Whether there is an entry.
    pub(super) fn exists(
        &mut self,
        bucket: &Resource<Bucket>,
        key: &str,
    ) -> wasmtime::Result<StoreOutcome<bool>> {
        let part = self.part(bucket)?;
        Ok(self.read(&part, EXISTS, key).then(|entry| Ok(entry?.is_some())))
    }

    fn read(
        &mut self,
        part: &OpenPart,
        operation: StoreOperation,
        key: &str,
    ) -> StoreOutcome<Option<Entry>> {
        self.begin(part, operation, 1, |call| {
            let key = call.key(key)?;
            let store = call.part.store.clone();
            if let Some(entry) = store.backend.get_now(&store.store, &key) {
                return Ok(StoreOutcome::Now(entry));
            }
            let most = call.limits.guest.store_value_bytes;
            call.later(most, async move { store.backend.get(&store.store, &key).await })
        })
    }

    /// Writes an entry. A writer that may not read learns of a conflict, but not what is there.
    pub(super) fn put(
        &mut self,
        bucket: &Resource<Bucket>,
        key: &str,
        write: EntryWrite,
    ) -> wasmtime::Result<StoreOutcome<Written>> {
        let part = self.part(bucket)?;
        Ok(self.begin(&part, PUT, 1, |call| {
            let key = call.key(key)?;
            call.check_value(&write.value)?;
            check_options(&write)?;
            let store = call.part.store.clone();
            let reads = call.part.access.allows(AllowedAccess::Read);
            let bytes = key.len() + write.value.len();
            call.later(bytes, async move {
                let EntryWrite { value, if_version, ttl, metadata } = write;
                let (expect, metadata) = (expected(if_version), metadata.as_deref());
                let put = Put { key: &key, value, expect, ttl, metadata };
                match store.backend.put(&store.store, put).await? {
                    Written::Conflict(_) if !reads => Ok(Written::Conflict(None)),
                    written => Ok(written),
                }
            })
        }))
    }

    /// Removes an entry, if it has the version that is asked for.
    pub(super) fn delete(
        &mut self,
        bucket: &Resource<Bucket>,
        key: &str,
        if_version: Option<u64>,
    ) -> wasmtime::Result<StoreOutcome<Removed>> {
        let part = self.part(bucket)?;
        Ok(self.begin(&part, DELETE, 1, |call| {
            let key = call.key(key)?;
            let store = call.part.store.clone();
            let expect = expected(if_version);
            call.later(
                key.len(),
                async move { store.backend.delete(&store.store, &key, expect).await },
            )
        }))
    }

    /// Reads several entries, in the order of their keys.
    pub(super) fn get_many(
        &mut self,
        bucket: &Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<StoreOutcome<FoundValues>> {
        let part = self.part(bucket)?;
        Ok(self.begin(&part, GET_MANY, keys.len(), |call| {
            check_count(keys.len())?;
            let whole = keys.iter().map(|key| call.key(key)).collect::<Result<Vec<_>, _>>()?;
            let store = call.part.store.clone();
            let most = call.limits.guest.store_answer_bytes;
            call.later(most, async move {
                let entries = store.backend.get_many(&store.store, &whole, most as u64).await?;
                let values = entries.into_iter().map(|entry| entry.map(|entry| entry.value));
                Ok(keys.into_iter().zip(values).collect())
            })
        }))
    }

    /// Writes and removes (`None`) several entries.
    pub(super) fn write_many(
        &mut self,
        bucket: &Resource<Bucket>,
        writes: Vec<(String, Option<Bytes>)>,
    ) -> wasmtime::Result<StoreOutcome<()>> {
        let part = self.part(bucket)?;
        Ok(self.begin(&part, WRITE_MANY, writes.len(), |call| {
            check_count(writes.len())?;
            let mut bytes = 0;
            let mut whole = Vec::with_capacity(writes.len());
            for (key, value) in writes {
                let key = call.key(&key)?;
                let value_bytes = value.as_ref().map_or(0, Bytes::len);
                call.check_value(value.as_deref().unwrap_or_default())?;
                bytes += key.len() + value_bytes;
                whole.push((key, value));
            }
            let store = call.part.store.clone();
            call.later(bytes, async move { store.backend.write_many(&store.store, whole).await })
        }))
    }

    /// Adds to a counter. Returns its new value.
    pub(super) fn increment(
        &mut self,
        bucket: &Resource<Bucket>,
        key: &str,
        delta: i64,
    ) -> wasmtime::Result<StoreOutcome<i64>> {
        let part = self.part(bucket)?;
        Ok(self.begin(&part, INCREMENT, 1, |call| {
            let key = call.key(key)?;
            let store = call.part.store.clone();
            call.later(key.len(), async move {
                store.backend.increment(&store.store, &key, delta).await
            })
        }))
    }

    /// Lists a page of keys, as guests see them.
    pub(super) fn list(
        &mut self,
        bucket: &Resource<Bucket>,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> wasmtime::Result<StoreOutcome<Keys>> {
        let part = self.part(bucket)?;
        Ok(self.begin(&part, LIST, 1, |call| {
            let most = call.limits.guest.store_key_bytes;
            if prefix.len().max(after.as_ref().map_or(0, String::len)) > most {
                return Err(Refused::TooLarge { what: "a key", most: most as u64 });
            }
            let limit = limit.clamp(1, page_keys(&call.limits.guest));
            let part = call.part.clone();
            let prefix = format!("{}{prefix}", part.prefix);
            let answer_bytes = call.limits.guest.store_answer_bytes;
            call.later(
                answer_bytes,
                async move { part.page(&prefix, after.as_deref(), limit).await },
            )
        }))
    }

    /// All keys, for interfaces that know no pages.
    pub(super) fn all_keys(
        &mut self,
        bucket: &Resource<Bucket>,
    ) -> wasmtime::Result<StoreOutcome<Vec<String>>> {
        let part = self.part(bucket)?;
        Ok(self.begin(&part, LIST, 1, |call| {
            let (part, limit) = (call.part.clone(), page_keys(&call.limits.guest));
            let most = call.limits.guest.store_answer_bytes;
            call.later(most, async move {
                let (mut all, mut bytes) = (Vec::<String>::new(), 0);
                loop {
                    let page =
                        part.page(&part.prefix, all.last().map(String::as_str), limit).await?;
                    for key in page.keys {
                        bytes += key.name.len() + LISTED_KEY_BYTES;
                        all.push(key.name);
                    }
                    if bytes > most {
                        // An interface with pages has to list them.
                        let most = most as u64;
                        return Err(Refused::TooLarge { what: "the list of all keys", most });
                    }
                    if !page.more {
                        return Ok(all);
                    }
                }
            })
        }))
    }

    /// Lists the page with a number that an earlier one gave, where an interface numbers pages.
    pub(super) fn list_numbered(
        &mut self,
        bucket: &Resource<Bucket>,
        page: Option<u64>,
    ) -> wasmtime::Result<StoreOutcome<Keys>> {
        let pages = &self.table.get(bucket)?.pages;
        let after = match page {
            None => None,
            Some(page) => match pages.iter().find(|(number, _)| *number == page) {
                Some((_, last)) => Some(last.clone()),
                None => {
                    let text = "the cursor is unknown: a bucket remembers those of the last pages";
                    return Ok(StoreOutcome::Now(Err(Refused::Invalid(text.to_owned()))));
                }
            },
        };
        self.list(bucket, "", after, usize::MAX)
    }

    /// Remembers where a page has ended. Returns the number of the next one.
    pub(super) fn next_page(
        &mut self,
        bucket: &Resource<Bucket>,
        keys: &Keys,
    ) -> wasmtime::Result<Option<u64>> {
        let bucket = self.table.get_mut(bucket)?;
        let Some(last) = keys.keys.last().filter(|_| keys.more) else { return Ok(None) };
        if bucket.pages.len() == PAGES {
            bucket.pages.pop_front();
        }
        bucket.pages_listed += 1;
        bucket.pages.push_back((bucket.pages_listed, last.name.clone()));
        Ok(Some(bucket.pages_listed))
    }

    /// Reads an entry, to replace it later.
    pub(super) fn compare(
        &mut self,
        bucket: &Resource<Bucket>,
        key: &str,
    ) -> wasmtime::Result<StoreOutcome<ComparedEntry>> {
        let part = self.part(bucket)?;
        let whole = format!("{}{key}", part.prefix);
        let entry = self.read(&part, GET, key);
        Ok(entry.then(move |entry| Ok(ComparedEntry { part, key: whole, entry: entry? })))
    }

    /// Gives the guest the entry that it compares with.
    pub(super) fn push_compared(
        &mut self,
        compared: ComparedEntry,
    ) -> wasmtime::Result<Result<Resource<Cas>, Refused>> {
        let ComparedEntry { part, key, entry } = compared;
        let bytes = key.len() + entry.as_ref().map_or(0, |entry| entry.value.len());
        match self.hold_handle(bytes) {
            Ok(held) => self.push(Cas { part, key, entry, _held: held }).map(Ok),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// The value that a guest compares with.
    pub(super) fn compared_value(&self, cas: &Resource<Cas>) -> wasmtime::Result<Option<Bytes>> {
        let entry = self.table.get(cas)?.entry.as_ref();
        Ok(entry.map(|entry| entry.value.clone()))
    }

    /// Replaces an entry that is as it was. `Some`: it is not, but this.
    pub(super) fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Bytes,
    ) -> wasmtime::Result<StoreOutcome<Option<ComparedEntry>>> {
        let Cas { part, key, entry, _held } = self.take(cas)?;
        Ok(self.begin(&part.clone(), SWAP, 1, |call| {
            call.check_value(&value)?;
            let bytes = key.len() + value.len() + call.limits.guest.store_value_bytes;
            call.later(bytes, async move {
                let expect = entry.map_or(Expect::Absent, |entry| Expect::Version(entry.version));
                let put = Put { key: &key, value, expect, ttl: None, metadata: None };
                let written = part.store.backend.put(&part.store.store, put).await?;
                Ok(match written {
                    Written::Version(_) => None,
                    Written::Conflict(entry) => Some(ComparedEntry { part, key, entry }),
                })
            })
        }))
    }
}

impl OpenPart {
    /// A page of keys with this beginning, without what guests do not see of them.
    async fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Keys, Refused> {
        let after = after.map(|after| format!("{}{after}", self.prefix));
        let page = KeyPage { prefix, after: after.as_deref(), limit };
        let mut listed = self.store.backend.list(&self.store.store, page).await?;
        // A key that does not begin like this is not the guest's to see.
        listed.keys.retain_mut(|key| match key.name.strip_prefix(&*self.prefix) {
            Some(name) => {
                key.name = name.to_owned();
                true
            }
            None => false,
        });
        Ok(listed)
    }
}

fn check_count(keys: usize) -> Result<(), Refused> {
    if keys > KEYS_AT_ONCE {
        return Err(Refused::Invalid(format!("at most {KEYS_AT_ONCE} keys are allowed at once")));
    }
    Ok(())
}

fn check_options(write: &EntryWrite) -> Result<(), Refused> {
    if write.metadata.as_ref().is_some_and(|text| text.len() > METADATA_BYTES) {
        return Err(Refused::TooLarge { what: "a metadata text", most: METADATA_BYTES as u64 });
    }
    match write.ttl {
        Some(ttl) if ttl.is_zero() || ttl > TTL_MAX => {
            Err(Refused::Invalid("an entry expires after 1 ms to 10 years".to_owned()))
        }
        _ => Ok(()),
    }
}
