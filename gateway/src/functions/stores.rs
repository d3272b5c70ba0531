//! Stores: what functions keep, beyond the end of their instances.
//!
//! The database has each store as its owner wants it, a backend has its data, and the pool has what guests need to
//! open it. A change reaches the database first, and then the guests. The data of a deleted store is removed in the
//! background; what a crash leaves of it, the next start removes.

pub(crate) mod backends;
pub(crate) mod entries;
pub(crate) mod granted;
mod metrics;
pub(crate) mod table;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use gateway_api::{StoreBackend, StoreQuotaView, StoreSpec};
use prometheus::Registry;
use runtime_pool::{GuestStore, KeyValueStore, Pool, Refused, StoreId, StoreUsage};
use store::{PutStore, Store, StoreQuota, StoreRecord, Tenant};
use tokio::{
    sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore},
    time,
};

use crate::{
    config::{Config, StoresSection},
    functions::{
        name::is_name,
        stores::{
            backends::{Backends, backend_name, by_name},
            metrics::StoreMetrics,
            table::{KEY_VALUE, NamedStore, StoreTable},
        },
    },
    telemetry::clock::now_ms,
};

/// How often the metrics are brought up to date.
const SHOW: Duration = Duration::from_secs(5);
/// How long to wait before a store is cleared again that could not be.
const CLEAR_AGAIN: Duration = Duration::from_secs(5);

/// Why a store was not changed, or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("{0}")]
    Refused(String),
    #[error("there is no such store")]
    NotFound,
    #[error("{0}")]
    Entry(String),
    /// Functions may open it.
    #[error("{} may open it", functions.join(", "))]
    InUse { functions: Vec<String> },
    #[error("its data is in another backend")]
    OtherBackend,
    /// A line of an import was not written, and none after it.
    #[error("line {line}: {error}")]
    Line { line: u64, error: Box<StoreError> },
    /// The client has stopped.
    #[error("receiving the entries")]
    Receive(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("too many large requests for entries at once")]
    TooMany,
    /// Why an operation on its data has failed.
    #[error(transparent)]
    Data(#[from] Refused),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Requests at once that may have a large value, or many, in memory.
const TRANSFERS: usize = 8;

/// A store with what is in it.
pub(crate) type StoreWithUsage = (Arc<NamedStore>, StoreUsage);

/// The stores of all tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stores {
    state: Arc<StoresState>,
}

struct StoresState {
    store: Store,
    pool: Arc<Pool>,
    backends: Backends,
    settings: StoresSection,
    metrics: StoreMetrics,
    /// Held while a store changes.
    changes: Mutex<()>,
    table: ArcSwap<StoreTable>,
    /// Deleted stores whose data is still there.
    deleted: Mutex<Vec<KeyValueStore>>,
    to_clear: Notify,
    transfers: Arc<Semaphore>,
}

impl Stores {
    /// Reads all stores, and gives them to the pool.
    pub(crate) async fn load(
        (store, pool): (&Store, &Arc<Pool>),
        backends: Backends,
        (config, registry): (&Config, &Registry),
    ) -> anyhow::Result<Self> {
        let metrics = StoreMetrics::register(registry, config.metrics.stores)?;
        let state = StoresState {
            store: store.clone(),
            pool: Arc::clone(pool),
            backends,
            settings: config.stores.clone(),
            metrics,
            changes: Mutex::default(),
            table: ArcSwap::default(),
            deleted: Mutex::default(),
            to_clear: Notify::new(),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
        };
        let this = Self { state: Arc::new(state) };
        let mut known = Vec::new();
        for record in store.all_stores().await? {
            known.push(StoreId(record.id));
            let (name, backend) = (record.name.clone(), record.backend.clone());
            match this.named(record, None) {
                Some(named) => this.show_guests(named),
                // It stays in the database, for a version that knows it.
                None => {
                    tracing::error!(name, backend, "skipped a store of an unknown kind or backend")
                }
            }
        }
        // What is left of stores whose deletion was interrupted.
        let backends = &this.state.backends;
        for id in backends.kept().await?.into_iter().filter(|id| !known.contains(id)) {
            let left = GuestStore::new(id, 0, 0);
            left.delete();
            let backend = backends.get(StoreBackend::Embedded);
            this.clear_later(KeyValueStore { backend, store: Arc::new(left) }).await;
        }
        Ok(this)
    }

    /// The right to have large values in memory, for as long as it is kept.
    pub(crate) fn transfer(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        Arc::clone(&self.state.transfers).try_acquire_owned().map_err(|_| StoreError::TooMany)
    }

    /// A store of this name.
    pub(crate) fn by_name(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> Result<Arc<NamedStore>, StoreError> {
        self.state.table.load().by_name(tenant, name).cloned().ok_or(StoreError::NotFound)
    }

    /// The stores of a tenant after a name, at most `limit`, with what is in them.
    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        after: &str,
        limit: usize,
    ) -> Result<Vec<StoreWithUsage>, StoreError> {
        let page: Vec<_> =
            self.state.table.load().after(tenant, after).take(limit).cloned().collect();
        let mut stores = Vec::with_capacity(page.len());
        for store in page {
            stores.push(with_usage(store).await?);
        }
        Ok(stores)
    }

    /// A store with what is in it.
    pub(crate) async fn get(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> Result<StoreWithUsage, StoreError> {
        with_usage(self.by_name(tenant, name)?).await
    }

    /// Makes a store, or changes its quota. Refuses a new one if there are `max`. Returns whether it is new.
    pub(crate) async fn put(
        &self,
        tenant: Tenant,
        name: &str,
        spec: StoreSpec,
        max: u64,
    ) -> Result<(StoreWithUsage, bool), StoreError> {
        self.check(name, spec.quota).map_err(StoreError::Refused)?;
        let (this, name) = (self.clone(), name.to_owned());
        // In a task of its own: guests must see it even if the client disconnects.
        let put = tokio::spawn(async move {
            let _turn = this.state.changes.lock().await;
            this.set(tenant, name, spec, max).await
        });
        let (store, is_new) = put.await.expect("the task does not panic and is not aborted")?;
        Ok((with_usage(store).await?, is_new))
    }

    async fn set(
        &self,
        tenant: Tenant,
        name: String,
        StoreSpec { backend, quota: StoreQuotaView { bytes, keys } }: StoreSpec,
        max: u64,
    ) -> Result<(Arc<NamedStore>, bool), StoreError> {
        let before = self.by_name(&tenant, &name).ok();
        let quota = StoreQuota { bytes, keys };
        let (kind, backend, now_ms) = (KEY_VALUE, backend_name(backend), now_ms());
        let put = PutStore { tenant, kind, name, backend, quota, now_ms };
        let (record, is_new) = match self.state.store.put_store(put, max).await {
            Err(store::Error::Conflict) => return Err(StoreError::OtherBackend),
            put => put?,
        };
        let guest = before.map(|before| Arc::clone(&before.guest));
        let named = self.named(record, guest).expect("kind and backend are known");
        self.show_guests(named.clone());
        Ok((Arc::new(named), is_new))
    }

    /// Makes the stores of these names that are not there, as their owner would without wishes. Refuses that if
    /// the operator does not allow it, and returns the name of one that is missing.
    pub(crate) async fn provide(
        &self,
        tenant: &Tenant,
        names: impl Iterator<Item = &str>,
        max: u64,
    ) -> Result<Option<String>, StoreError> {
        let missing: Vec<String> =
            names.filter(|name| self.by_name(tenant, name).is_err()).map(str::to_owned).collect();
        for name in missing {
            if !self.state.settings.create_on_deploy {
                return Ok(Some(name));
            }
            // One that another request has made meanwhile stays as it is.
            self.put_new(tenant.clone(), &name, max).await?;
        }
        Ok(None)
    }

    async fn put_new(&self, tenant: Tenant, name: &str, max: u64) -> Result<(), StoreError> {
        let (this, name) = (self.clone(), name.to_owned());
        let put = tokio::spawn(async move {
            let _turn = this.state.changes.lock().await;
            if this.by_name(&tenant, &name).is_err() {
                this.set(tenant, name, StoreSpec::default(), max).await?;
            }
            Ok(())
        });
        put.await.expect("the task does not panic and is not aborted")
    }

    /// Deletes a store with all that is in it.
    pub(crate) async fn delete(&self, tenant: Tenant, name: &str) -> Result<(), StoreError> {
        let (this, name) = (self.clone(), name.to_owned());
        let delete = tokio::spawn(async move {
            let state = &this.state;
            let _turn = state.changes.lock().await;
            let store = this.by_name(&tenant, &name)?;
            state.store.delete_store(store.record.id).await?;
            // Guests of functions that are in memory, too, find it gone.
            store.guest.delete();
            state.pool.remove_key_value_store(tenant.as_str(), &name);
            this.swap(|table| table.remove(&store));
            state.metrics.forget(&store.label);
            this.clear_later(store.shared()).await;
            Ok(())
        });
        delete.await.expect("the task does not panic and is not aborted")
    }

    /// Whether a store can have this name and this quota.
    fn check(&self, name: &str, quota: StoreQuotaView) -> Result<(), String> {
        if !is_name(name) {
            return Err(format!(
                "{name:?} cannot be the name of a store: that is like a function's"
            ));
        }
        let StoresSection { max_bytes, max_keys, .. } = self.state.settings;
        for (what, asked, most) in
            [("bytes", quota.bytes, max_bytes), ("keys", quota.keys, max_keys)]
        {
            if asked.is_some_and(|asked| asked > most) {
                return Err(format!(
                    "quota.{what}: at most {most}; the operator can raise `stores.max_{what}`"
                ));
            }
        }
        Ok(())
    }

    /// A record as it is in force, for guests who have the store already, too.
    fn named(&self, record: StoreRecord, guest: Option<Arc<GuestStore>>) -> Option<NamedStore> {
        let backend = by_name(&record.backend).filter(|_| record.kind == KEY_VALUE)?;
        let StoresSection { bytes, max_bytes, keys, max_keys, .. } = self.state.settings;
        let bytes = record.quota.bytes.unwrap_or(bytes).min(max_bytes);
        let keys = record.quota.keys.unwrap_or(keys).min(max_keys);
        let guest =
            guest.unwrap_or_else(|| Arc::new(GuestStore::new(StoreId(record.id), bytes, keys)));
        guest.set_quota(bytes, keys);
        let label = self.state.metrics.label(&record.tenant, &record.name);
        Some(NamedStore { data: self.state.backends.get(backend), record, backend, guest, label })
    }

    /// Gives a store to guests, and to the API.
    fn show_guests(&self, named: NamedStore) {
        let NamedStore { record, .. } = &named;
        self.state.pool.set_key_value_store(record.tenant.as_str(), &record.name, named.shared());
        self.swap(|table| table.set(Arc::new(named)));
    }

    fn swap(&self, change: impl FnOnce(&mut StoreTable)) {
        let mut table = StoreTable::clone(&self.state.table.load());
        change(&mut table);
        self.state.metrics.count(table.len());
        self.state.table.store(Arc::new(table));
    }

    async fn clear_later(&self, deleted: KeyValueStore) {
        self.state.deleted.lock().await.push(deleted);
        self.state.to_clear.notify_one();
    }

    /// Copies the data of stores into a directory that stands for the data directory. Returns the names of the
    /// files there.
    pub(crate) async fn copy_into(&self, directory: PathBuf) -> io::Result<Vec<String>> {
        self.state.backends.copy_into(directory).await
    }

    /// Ends the threads of the backends after what waits. No guest runs any longer.
    pub(crate) async fn close(&self) {
        self.state.backends.close().await;
    }

    /// Shows metrics, and removes the data of deleted stores. Ends when it is dropped, at any point.
    pub(crate) async fn upkeep(self) {
        tokio::join!(self.show(), self.clear());
    }

    async fn show(&self) {
        let mut ticks = time::interval(SHOW);
        loop {
            ticks.tick().await;
            self.state.metrics.show_state(self.state.backends.state());
            let table = self.state.table.load_full();
            let mut stores = Vec::with_capacity(table.len());
            for store in table.all() {
                // What cannot be read is in the log of the backend.
                if let Ok(usage) = store.data.usage(&store.guest).await {
                    stores.push((Arc::clone(store), usage));
                }
            }
            // A store that was deleted meanwhile has no series any longer.
            let _turn = self.state.changes.lock().await;
            stores.retain(|(store, _)| !store.guest.is_deleted());
            let stores = stores.iter().map(|(store, usage)| (&*store.label, *usage));
            self.state.metrics.show(stores);
        }
    }

    async fn clear(&self) {
        loop {
            let next = self.state.deleted.lock().await.pop();
            let Some(KeyValueStore { backend, store }) = next else {
                self.state.to_clear.notified().await;
                continue;
            };
            while let Err(error) = backend.clear(&store).await {
                tracing::warn!(%error, store = store.id().0, "a deleted store could not be cleared yet");
                time::sleep(CLEAR_AGAIN).await;
            }
        }
    }
}

async fn with_usage(store: Arc<NamedStore>) -> Result<StoreWithUsage, StoreError> {
    let usage = store.data.usage(&store.guest).await?;
    Ok((store, usage))
}
