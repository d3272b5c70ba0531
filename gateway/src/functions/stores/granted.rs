//! Which functions may open which stores: their active revisions, and the revisions of their channels.

use std::collections::{BTreeMap, BTreeSet};

use store::Tenant;

use crate::functions::catalog::{Catalog, CatalogEntry};

/// The functions, and channels as `NAME@CHANNEL`, that may open a store of a tenant, by the store's name.
pub(crate) type Granted = BTreeMap<String, BTreeSet<String>>;

/// Looks through the settings of all functions of a tenant.
pub(crate) fn granted(catalog: &Catalog, tenant: &Tenant) -> Granted {
    let mut granted = Granted::new();
    catalog.for_each(|name, channel, entry| {
        if name.tenant != *tenant {
            return;
        }
        let function = name.name.as_str();
        let place =
            channel.map_or_else(|| function.to_owned(), |name| format!("{function}@{name}"));
        let others =
            entry.channel.iter().flat_map(|channel| channel.entries()).map(|other| &**other);
        for store in std::iter::once(entry).chain(others).flat_map(CatalogEntry::granted_stores) {
            granted.entry(store).or_default().insert(place.clone());
        }
    });
    granted
}
