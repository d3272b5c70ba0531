//! `wasi:keyvalue` in both drafts, and Spin's key-value interfaces.

use bytes::Bytes;
use wasmtime::component::{
    ComponentType, FutureReader, Linker, LinkerInstance, Lower, Resource, ResourceType,
    StreamReader,
};

use super::{
    errors::{CasError, SpinError, WasiError},
    functions::{CallKind, InterfaceFunctions, result},
    names,
};
use crate::host::{
    Host,
    capabilities::{
        answer::StoreOutcome,
        bucket::{Bucket, Cas, EntryWrite, FoundValues},
        key_value::Keys,
        refused::Refused,
    },
};

/// A page of keys in the first draft, whose cursors are numbers.
#[derive(ComponentType, Lower)]
#[component(record)]
struct NumberedKeys {
    keys: Vec<String>,
    cursor: Option<u64>,
}

/// A page of keys in the second draft, whose cursors are texts.
#[derive(ComponentType, Lower)]
#[component(record)]
struct ListedKeys {
    keys: Vec<String>,
    cursor: Option<String>,
}

/// A list of pairs, each of which is there or not.
type OptionalPairs = Vec<Option<(String, Bytes)>>;

/// Adds `wasi:keyvalue`.
pub(super) fn add_wasi(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    for version in ["0.2.0-draft", "0.2.0-draft2"] {
        let mut store = linker.instance(&format!("wasi:keyvalue/store@{version}"))?;
        let mut store = InterfaceFunctions { instance: &mut store, calls: CallKind::Blocking };
        store.add("open", begin_open, open::<WasiError>)?;
        store.entries::<WasiError>("bucket")?;
        if version == "0.2.0-draft" {
            store.numbered_pages()?;
        } else {
            store.pages()?;
        }
        let mut batch = linker.instance(&format!("wasi:keyvalue/batch@{version}"))?;
        InterfaceFunctions { instance: &mut batch, calls: CallKind::Blocking }.writes()?;
    }
    let mut batch = linker.instance("wasi:keyvalue/batch@0.2.0-draft")?;
    InterfaceFunctions { instance: &mut batch, calls: CallKind::Blocking }.get_optional_pairs()?;
    let mut batch = linker.instance(names::BATCH_OF_TWO_SHAPES)?;
    InterfaceFunctions { instance: &mut batch, calls: CallKind::Blocking }.get_pairs()?;

    let mut atomics = linker.instance("wasi:keyvalue/atomics@0.2.0-draft")?;
    InterfaceFunctions { instance: &mut atomics, calls: CallKind::Blocking }
        .increment_unsigned()?;
    let mut atomics = linker.instance("wasi:keyvalue/atomics@0.2.0-draft2")?;
    let mut atomics = InterfaceFunctions { instance: &mut atomics, calls: CallKind::Blocking };
    atomics.add(
        "increment",
        |host, (bucket, key, delta): (Resource<Bucket>, String, i64)| {
            host.capabilities().increment(&bucket, &key, delta)
        },
        result::<i64, WasiError>,
    )?;
    atomics.compare_and_swap()
}

/// Replaces the shape of `get-many` that the linker has by the one of the proposal itself.
pub(super) fn use_other_shape(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut batch = linker.instance(names::BATCH_OF_TWO_SHAPES)?;
    let added =
        InterfaceFunctions { instance: &mut batch, calls: CallKind::Blocking }.get_optional_pairs();
    linker.allow_shadowing(false);
    added
}

/// Adds one of Spin's interfaces.
pub(super) fn add_spin(
    linker: &mut Linker<Host>,
    name: &str,
    calls: CallKind,
) -> wasmtime::Result<()> {
    let mut instance = linker.instance(name)?;
    let mut store = InterfaceFunctions { instance: &mut instance, calls };
    store.add("[static]store.open", begin_open, open::<SpinError>)?;
    store.entries::<SpinError>("store")?;
    match calls {
        CallKind::Blocking => store.add(
            "[method]store.get-keys",
            |host, (store,): (Resource<Bucket>,)| host.capabilities().all_keys(&store),
            result::<Vec<String>, SpinError>,
        ),
        CallKind::Concurrent => store.stream_of_keys(),
    }
}

pub(super) fn begin_open(
    host: &mut Host,
    (label,): (String,),
) -> wasmtime::Result<StoreOutcome<Bucket>> {
    Ok(StoreOutcome::Now(host.capabilities().open_bucket(&label)))
}

/// Gives the guest what it has opened.
pub(super) fn open<E: From<Refused>>(
    host: &mut Host,
    opened: Result<Bucket, Refused>,
) -> wasmtime::Result<Result<Resource<Bucket>, E>> {
    Ok(match opened {
        Ok(bucket) => Ok(host.capabilities().push(bucket)?),
        Err(refused) => Err(refused.into()),
    })
}

/// Adds the resource of an opened store.
pub(super) fn resource_of_bucket(
    instance: &mut LinkerInstance<'_, Host>,
    name: &str,
) -> wasmtime::Result<()> {
    instance.resource(name, ResourceType::host::<Bucket>(), |mut store, handle| {
        let bucket = Resource::<Bucket>::new_own(handle);
        store.data_mut().capabilities().take(bucket).map(drop)
    })
}

impl InterfaceFunctions<'_, '_> {
    /// Adds the resource of an opened store, and the functions for single entries.
    fn entries<E>(&mut self, resource: &str) -> wasmtime::Result<()>
    where
        E: From<Refused> + ComponentType + Lower + Send + Sync + 'static,
    {
        resource_of_bucket(self.instance, resource)?;
        self.add(
            &format!("[method]{resource}.get"),
            |host, (bucket, key): (Resource<Bucket>, String)| {
                let entry = host.capabilities().get(&bucket, &key)?;
                Ok(entry.then(|entry| Ok(entry?.map(|entry| entry.value))))
            },
            result::<Option<Bytes>, E>,
        )?;
        self.add(
            &format!("[method]{resource}.set"),
            |host, (bucket, key, value): (Resource<Bucket>, String, Bytes)| {
                let write = EntryWrite { value, ..EntryWrite::default() };
                let written = host.capabilities().put(&bucket, &key, write)?;
                Ok(written.then(|written| written.map(drop)))
            },
            result::<(), E>,
        )?;
        self.add(
            &format!("[method]{resource}.delete"),
            |host, (bucket, key): (Resource<Bucket>, String)| {
                let removed = host.capabilities().delete(&bucket, &key, None)?;
                Ok(removed.then(|removed| removed.map(drop)))
            },
            result::<(), E>,
        )?;
        self.add(
            &format!("[method]{resource}.exists"),
            |host, (bucket, key): (Resource<Bucket>, String)| {
                host.capabilities().exists(&bucket, &key)
            },
            result::<bool, E>,
        )
    }

    fn numbered_pages(&mut self) -> wasmtime::Result<()> {
        self.add(
            "[method]bucket.list-keys",
            |host, (bucket, page): (Resource<Bucket>, Option<u64>)| {
                let keys = host.capabilities().list_numbered(&bucket, page)?;
                let handle = bucket.rep();
                Ok(keys.then(move |keys| Ok((handle, keys?))))
            },
            |host, listed: Result<(u32, Keys), Refused>| {
                Ok(match listed {
                    Ok((handle, keys)) => {
                        let bucket = Resource::new_borrow(handle);
                        let cursor = host.capabilities().next_page(&bucket, &keys)?;
                        Ok(NumberedKeys { keys: key_names(keys), cursor })
                    }
                    Err(refused) => Err(WasiError::from(refused)),
                })
            },
        )
    }

    fn pages(&mut self) -> wasmtime::Result<()> {
        self.add(
            "[method]bucket.list-keys",
            |host, (bucket, after): (Resource<Bucket>, Option<String>)| {
                let keys = host.capabilities().list(&bucket, "", after, usize::MAX)?;
                Ok(keys.then(|keys| {
                    let keys = keys?;
                    let last = keys.keys.last().filter(|_| keys.more);
                    let cursor = last.map(|last| last.name.clone());
                    Ok(ListedKeys { keys: key_names(keys), cursor })
                }))
            },
            result::<ListedKeys, WasiError>,
        )
    }

    fn get_optional_pairs(&mut self) -> wasmtime::Result<()> {
        self.add(
            "get-many",
            |host, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
                let found = host.capabilities().get_many(&bucket, keys)?;
                Ok(found.then(|found| {
                    let pairs = found?.into_iter().map(|(key, value)| Some((key, value?)));
                    Ok(pairs.collect::<OptionalPairs>())
                }))
            },
            result::<OptionalPairs, WasiError>,
        )
    }

    fn get_pairs(&mut self) -> wasmtime::Result<()> {
        self.add(
            "get-many",
            |host, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
                host.capabilities().get_many(&bucket, keys)
            },
            result::<FoundValues, WasiError>,
        )
    }

    fn writes(&mut self) -> wasmtime::Result<()> {
        self.add(
            "set-many",
            |host, (bucket, pairs): (Resource<Bucket>, Vec<(String, Bytes)>)| {
                let writes = pairs.into_iter().map(|(key, value)| (key, Some(value)));
                host.capabilities().write_many(&bucket, writes.collect())
            },
            result::<(), WasiError>,
        )?;
        self.add(
            "delete-many",
            |host, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
                let writes = keys.into_iter().map(|key| (key, None));
                host.capabilities().write_many(&bucket, writes.collect())
            },
            result::<(), WasiError>,
        )
    }

    /// The counters of the first draft, which cannot be negative.
    fn increment_unsigned(&mut self) -> wasmtime::Result<()> {
        self.add(
            "increment",
            |host, (bucket, key, delta): (Resource<Bucket>, String, u64)| {
                let Ok(delta) = i64::try_from(delta) else {
                    let text = "the sum has no place in 64 bits".to_owned();
                    return Ok(StoreOutcome::Now(Err(Refused::Invalid(text))));
                };
                let sum = host.capabilities().increment(&bucket, &key, delta)?;
                Ok(sum.then(|sum| {
                    let negative = |_| Refused::Invalid("the counter is negative".to_owned());
                    u64::try_from(sum?).map_err(negative)
                }))
            },
            result::<u64, WasiError>,
        )
    }

    fn compare_and_swap(&mut self) -> wasmtime::Result<()> {
        self.instance.resource("cas", ResourceType::host::<Cas>(), |mut store, handle| {
            store.data_mut().capabilities().take(Resource::<Cas>::new_own(handle)).map(drop)
        })?;
        self.add(
            "[static]cas.new",
            |host, (bucket, key): (Resource<Bucket>, String)| {
                host.capabilities().compare(&bucket, &key)
            },
            |host, compared| {
                Ok(match compared {
                    Ok(compared) => {
                        host.capabilities().push_compared(compared)?.map_err(WasiError::from)
                    }
                    Err(refused) => Err(refused.into()),
                })
            },
        )?;
        self.instance.func_wrap("[method]cas.current", |mut store, (cas,): (Resource<Cas>,)| {
            let value = store.data_mut().capabilities().compared_value(&cas)?;
            Ok((Ok::<_, WasiError>(value),))
        })?;
        self.add(
            "swap",
            |host, (cas, value): (Resource<Cas>, Bytes)| host.capabilities().swap(cas, value),
            |host, swapped| {
                let refused = |refused| Err(CasError::Store(WasiError::from(refused)));
                Ok(match swapped {
                    Ok(None) => Ok(()),
                    Ok(Some(found)) => match host.capabilities().push_compared(found)? {
                        Ok(cas) => Err(CasError::Failed(cas)),
                        Err(why) => refused(why),
                    },
                    Err(why) => refused(why),
                })
            },
        )
    }

    /// All keys as a stream, and how it has ended.
    fn stream_of_keys(&mut self) -> wasmtime::Result<()> {
        self.instance.func_wrap_concurrent(
            "[method]store.get-keys",
            |store, (bucket,): (Resource<Bucket>,)| {
                Box::pin(async move {
                    let answer =
                        store.with(|mut access| access.get().capabilities().all_keys(&bucket))?;
                    let (keys, end) = match answer.outcome().await {
                        Ok(keys) => (keys, Ok(())),
                        Err(refused) => (Vec::new(), Err(SpinError::from(refused))),
                    };
                    store.with(|mut access| {
                        let keys = StreamReader::new(&mut access, keys)?;
                        let end = async move { Ok::<_, wasmtime::Error>(end) };
                        let end = FutureReader::new(&mut access, end)?;
                        Ok(((keys, end),))
                    })
                })
            },
        )
    }
}

fn key_names(keys: Keys) -> Vec<String> {
    keys.keys.into_iter().map(|key| key.name).collect()
}
