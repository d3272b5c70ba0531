//! The stores of the node, by their owners and names.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use super::{guest_store::GuestStore, key_value::KeyValue};

/// A store of keys and values, and the backend in which its data lies.
#[derive(Clone)]
pub struct KeyValueStore {
    /// Where its data lies.
    pub backend: Arc<dyn KeyValue>,
    /// The store.
    pub store: Arc<GuestStore>,
}

impl fmt::Debug for KeyValueStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValueStore").field("store", &self.store).finish_non_exhaustive()
    }
}

/// The stores of the node. They come and go while it runs: a guest that opens one looks here.
#[derive(Debug, Default)]
pub(crate) struct NodeStores(RwLock<HashMap<String, HashMap<String, KeyValueStore>>>);

impl NodeStores {
    pub(crate) fn set(&self, tenant: &str, name: &str, store: KeyValueStore) {
        let mut stores = self.0.write().unwrap_or_else(PoisonError::into_inner);
        stores.entry(tenant.to_owned()).or_default().insert(name.to_owned(), store);
    }

    pub(crate) fn remove(&self, tenant: &str, name: &str) {
        let mut stores = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(stores) = stores.get_mut(tenant) {
            stores.remove(name);
        }
    }

    pub(crate) fn get(&self, tenant: &str, name: &str) -> Option<KeyValueStore> {
        let stores = self.0.read().unwrap_or_else(PoisonError::into_inner);
        stores.get(tenant)?.get(name).cloned()
    }
}
