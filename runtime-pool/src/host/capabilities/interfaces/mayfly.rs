//! `mayfly:keyvalue`: stores of keys and values with versions, expiry, texts beside values, and lists by
//! prefix. `functions/wit/deps/mayfly-keyvalue.wit` is its text.

use std::time::Duration;

use bytes::Bytes;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource};

use super::{
    errors::MayflyError,
    functions::{CallKind, InterfaceFunctions, result},
    key_value::{begin_open, open, resource_of_bucket},
    names,
};
use crate::host::{
    Host,
    capabilities::{
        bucket::{Bucket, EntryWrite},
        key_value::{Entry, Keys, Removed, Written},
        refused::Refused,
    },
};

/// What is stored under a key.
#[derive(ComponentType, Lower)]
#[component(record)]
struct StoredEntry {
    value: Bytes,
    version: u64,
    #[component(name = "expires-ms")]
    expires_ms: Option<u64>,
    metadata: Option<String>,
}

/// How an entry is to be written.
#[derive(ComponentType, Lift)]
#[component(record)]
struct PutOptions {
    #[component(name = "if-version")]
    if_version: Option<u64>,
    #[component(name = "ttl-ms")]
    ttl_ms: Option<u64>,
    metadata: Option<String>,
}

/// Why an entry was not written.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum PutError {
    #[component(name = "conflict")]
    Conflict(Option<StoredEntry>),
    #[component(name = "failed")]
    Failed(MayflyError),
}

/// A key in a list.
#[derive(ComponentType, Lower)]
#[component(record)]
struct StoredKey {
    name: String,
    #[component(name = "expires-ms")]
    expires_ms: Option<u64>,
    metadata: Option<String>,
}

/// A page of keys.
#[derive(ComponentType, Lower)]
#[component(record)]
struct KeyList {
    keys: Vec<StoredKey>,
    more: bool,
}

impl From<Entry> for StoredEntry {
    fn from(entry: Entry) -> Self {
        Self {
            value: entry.value,
            version: entry.version,
            expires_ms: entry.expires_ms.map(i64::cast_unsigned),
            metadata: entry.metadata.map(|text| text.to_string()),
        }
    }
}

impl From<Keys> for KeyList {
    fn from(listed: Keys) -> Self {
        let keys = listed.keys.into_iter().map(|key| StoredKey {
            name: key.name,
            expires_ms: key.expires_ms.map(i64::cast_unsigned),
            metadata: key.metadata.map(|text| text.to_string()),
        });
        Self { keys: keys.collect(), more: listed.more }
    }
}

/// Adds the interface.
pub(super) fn add(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(names::MAYFLY_KEY_VALUE)?;
    resource_of_bucket(&mut instance, "bucket")?;
    let mut store = InterfaceFunctions { instance: &mut instance, calls: CallKind::Blocking };
    store.add("[static]bucket.open", begin_open, open::<MayflyError>)?;
    store.add(
        "[method]bucket.get",
        |host, (bucket, key): (Resource<Bucket>, String)| {
            let entry = host.capabilities().get(&bucket, &key)?;
            Ok(entry.then(|entry| Ok(entry?.map(StoredEntry::from))))
        },
        result::<Option<StoredEntry>, MayflyError>,
    )?;
    store.add(
        "[method]bucket.put",
        |host, (bucket, key, value, options): (Resource<Bucket>, String, Bytes, PutOptions)| {
            let PutOptions { if_version, ttl_ms, metadata } = options;
            let ttl = ttl_ms.map(Duration::from_millis);
            host.capabilities().put(&bucket, &key, EntryWrite { value, if_version, ttl, metadata })
        },
        |_, written: Result<Written, Refused>| {
            Ok(match written {
                Ok(Written::Version(version)) => Ok(version),
                Ok(Written::Conflict(found)) => Err(PutError::Conflict(found.map(Into::into))),
                Err(refused) => Err(PutError::Failed(refused.into())),
            })
        },
    )?;
    store.add(
        "[method]bucket.delete",
        |host, (bucket, key, if_version): (Resource<Bucket>, String, Option<u64>)| {
            let removed = host.capabilities().delete(&bucket, &key, if_version)?;
            Ok(removed.then(|removed| Ok(removed? == Removed::Entry)))
        },
        result::<bool, MayflyError>,
    )?;
    store.add(
        "[method]bucket.list",
        |host, (bucket, prefix, after, limit): (_, String, _, u32)| {
            let bucket: Resource<Bucket> = bucket;
            let keys = host.capabilities().list(&bucket, &prefix, after, limit as usize)?;
            Ok(keys.then(|keys| Ok(KeyList::from(keys?))))
        },
        result::<KeyList, MayflyError>,
    )?;
    store.add(
        "[method]bucket.increment",
        |host, (bucket, key, delta): (Resource<Bucket>, String, i64)| {
            host.capabilities().increment(&bucket, &key, delta)
        },
        result::<i64, MayflyError>,
    )
}
