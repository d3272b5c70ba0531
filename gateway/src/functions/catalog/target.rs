//! Functions and channels that something else names: routes, schedules, queues and flows.

use std::{collections::BTreeSet, sync::Arc};

use store::{DEFAULT_CHANNEL, Tenant};

use crate::functions::catalog::{Catalog, CatalogEntry};

impl Catalog {
    /// The function with its channel, if one is named. An error says what is not there, and begins with the
    /// member that names it.
    pub(crate) fn target(
        &self,
        tenant: &Tenant,
        function: &str,
        channel: Option<&str>,
    ) -> Result<Arc<CatalogEntry>, String> {
        let entry = self.get(tenant, function).ok_or_else(|| no_function(function))?;
        match channel {
            None | Some(DEFAULT_CHANNEL) => Ok(entry),
            Some(channel) => {
                self.channel(tenant, function, channel).ok_or_else(|| no_channel(function, channel))
            }
        }
    }
}

fn no_function(function: &str) -> String {
    format!("function: there is no function {function:?}; deploy it first")
}

fn no_channel(function: &str, channel: &str) -> String {
    format!("channel: the function {function:?} has no channel {channel:?}")
}

/// A function, or a channel of it.
pub(crate) type TargetName = (String, Option<String>);

/// The functions and channels of a tenant that there are, or will be after a change.
pub(crate) struct NamedTargets<'a> {
    catalog: &'a Catalog,
    tenant: &'a Tenant,
    added: BTreeSet<TargetName>,
    removed: BTreeSet<TargetName>,
}

impl<'a> NamedTargets<'a> {
    /// Those that there are.
    pub(crate) fn now(catalog: &'a Catalog, tenant: &'a Tenant) -> Self {
        Self { catalog, tenant, added: BTreeSet::new(), removed: BTreeSet::new() }
    }

    /// Those that there will be. What is added counts even if it is also removed.
    pub(crate) fn after(
        self,
        added: impl IntoIterator<Item = TargetName>,
        removed: impl IntoIterator<Item = TargetName>,
    ) -> Self {
        Self { added: added.into_iter().collect(), removed: removed.into_iter().collect(), ..self }
    }

    /// Whose they are.
    pub(crate) fn tenant(&self) -> &'a Tenant {
        self.tenant
    }

    /// An error says what is not there, and begins with the member that names it.
    pub(crate) fn check(&self, function: &str, channel: Option<&str>) -> Result<(), String> {
        let has = |channel: Option<&str>| {
            let name = (function.to_owned(), channel.map(ToOwned::to_owned));
            if self.added.contains(&name) {
                return true;
            }
            let gone =
                self.removed.contains(&(function.to_owned(), None)) || self.removed.contains(&name);
            !gone && self.catalog.target(self.tenant, function, channel).is_ok()
        };
        if !has(None) {
            return Err(no_function(function));
        }
        match channel.filter(|channel| *channel != DEFAULT_CHANNEL) {
            Some(channel) if !has(Some(channel)) => Err(no_channel(function, channel)),
            _ => Ok(()),
        }
    }
}
