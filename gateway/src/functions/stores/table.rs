//! The stores in memory, by name.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use gateway_api::StoreBackend;
use runtime_pool::{GuestStore, KeyValue, KeyValueStore};
use store::{StoreRecord, Tenant};

/// What a store keeps.
pub(crate) const KEY_VALUE: &str = "keyvalue";

/// A store as it is in force. Immutable, but for its quota.
#[derive(Clone)]
pub(crate) struct NamedStore {
    pub(crate) record: StoreRecord,
    pub(crate) backend: StoreBackend,
    /// Where its data is.
    pub(crate) data: Arc<dyn KeyValue>,
    /// The same for all who use it, guests included.
    pub(crate) guest: Arc<GuestStore>,
    /// Its name in metrics.
    pub(super) label: Arc<str>,
}

impl NamedStore {
    /// What guests need of it.
    pub(super) fn shared(&self) -> KeyValueStore {
        KeyValueStore { backend: Arc::clone(&self.data), store: Arc::clone(&self.guest) }
    }
}

/// All stores.
#[derive(Clone, Default)]
pub(super) struct StoreTable {
    by_name: BTreeMap<(Tenant, String), Arc<NamedStore>>,
}

impl StoreTable {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<NamedStore>> {
        self.by_name.values()
    }

    pub(super) fn by_name(&self, tenant: &Tenant, name: &str) -> Option<&Arc<NamedStore>> {
        self.by_name.get(&(tenant.clone(), name.to_owned()))
    }

    /// Those of a tenant after a name.
    pub(super) fn after(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> impl Iterator<Item = &Arc<NamedStore>> {
        let first = Bound::Excluded((tenant.clone(), name.to_owned()));
        let others = self.by_name.range((first, Bound::Unbounded));
        let tenant = tenant.clone();
        others.map(|(_, store)| store).take_while(move |store| store.record.tenant == tenant)
    }

    pub(super) fn set(&mut self, store: Arc<NamedStore>) {
        let name = (store.record.tenant.clone(), store.record.name.clone());
        self.by_name.insert(name, store);
    }

    pub(super) fn remove(&mut self, store: &NamedStore) {
        self.by_name.remove(&(store.record.tenant.clone(), store.record.name.clone()));
    }
}
