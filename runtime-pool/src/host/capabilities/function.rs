//! What the instances of one function share of what it was granted.

use std::sync::Arc;

use secrecy::ExposeSecret as _;

use super::{
    grants::{AllowedAccess, ConfigValue, Grants},
    refused::Refused,
    stores::{KeyValueStore, NodeStores},
};
use crate::{
    error::Limit,
    limits::{GuestLimits, PerSecond},
    metrics::PoolMetrics,
    outbound::OutboundClient,
};

/// What a function was granted, and what the node has for it.
pub(crate) struct FunctionCapabilities {
    pub(super) grants: Arc<Grants>,
    function: GrantedFunction,
    node: NodeCapabilities,
    /// Operations on stores, of all its invocations together.
    rate: PerSecond,
}

/// Whose grants they are.
pub(crate) struct GrantedFunction {
    /// The owner of the function, and of the stores and secrets that the grants name.
    pub(crate) tenant: Arc<str>,
    /// Its name within its tenant.
    pub(crate) name: Arc<str>,
    /// Its label in metrics.
    pub(crate) label: Arc<str>,
}

/// What all functions share.
#[derive(Clone)]
pub(crate) struct NodeCapabilities {
    pub(crate) stores: Arc<NodeStores>,
    /// Has the secrets.
    pub(crate) client: Arc<OutboundClient>,
    pub(crate) metrics: PoolMetrics,
}

/// The part of a store that a guest has opened.
#[derive(Clone)]
pub(super) struct OpenPart {
    pub(super) store: KeyValueStore,
    pub(super) access: AllowedAccess,
    /// The beginning of each key.
    pub(super) prefix: Arc<str>,
}

impl FunctionCapabilities {
    pub(crate) fn new(
        grants: Arc<Grants>,
        function: GrantedFunction,
        node: NodeCapabilities,
        limits: &GuestLimits,
    ) -> Self {
        let rate = PerSecond::new(limits.store_operations_per_second);
        Self { grants, function, node, rate }
    }

    /// What `label` stands for now.
    pub(super) fn store(&self, label: &str) -> Result<OpenPart, Refused> {
        let (grant, prefix) = self.grants.key_value(label).ok_or(Refused::Denied)?;
        let store = self.node.stores.get(&self.function.tenant, &grant.store);
        let store = store.filter(|store| !store.store.is_deleted()).ok_or(Refused::NoStore)?;
        Ok(OpenPart { store, access: grant.access, prefix })
    }

    /// Counts operations, or refuses them.
    pub(super) fn take(&self, operations: u64) -> Result<(), Refused> {
        if self.rate.take(operations) { Ok(()) } else { Err(Refused::Rate) }
    }

    /// The value of a secret, or why there is none.
    pub(super) fn secret(&self, name: &str) -> Result<String, String> {
        let GrantedFunction { tenant, name: function, .. } = &self.function;
        let secret = self.node.client.secrets.for_guest(tenant, function, name);
        secret.map(|secret| secret.expose_secret().to_owned()).ok_or_else(|| {
            format!(
                "there is no secret `{name}` that this function may read: it must be there, be for \
                 this function, and be allowed for every host"
            )
        })
    }

    /// The variables of an instance that is made now: those of the settings, and secrets. A secret that
    /// cannot be read is left out.
    pub(crate) fn environment(&self, own: &Arc<[(String, String)]>) -> Arc<[(String, String)]> {
        let mut secrets = self
            .grants
            .config
            .iter()
            .filter_map(|(variable, value)| match value {
                ConfigValue::Secret { name, environment: true } => {
                    Some((variable.to_string(), self.secret(name).ok()?))
                }
                ConfigValue::Secret { .. } | ConfigValue::Plain(_) => None,
            })
            .peekable();
        if secrets.peek().is_none() {
            return Arc::clone(own);
        }
        own.iter().cloned().chain(secrets).collect()
    }

    /// Counts the outcome of an operation.
    pub(super) fn count<T>(&self, kind: &str, operation: &str, outcome: &Result<T, Refused>) {
        let outcome = match outcome {
            Ok(_) => "ok",
            Err(refused) => {
                if let Some(limit) = limit(refused) {
                    self.node.metrics.limit_hit(limit);
                }
                if refused.is_failure() { "failed" } else { "refused" }
            }
        };
        self.count_as(kind, operation, outcome);
    }

    /// Counts an operation whose outcome is told apart elsewhere.
    pub(super) fn count_as(&self, kind: &str, operation: &str, outcome: &str) {
        let metrics = &self.node.metrics.capabilities;
        metrics.count(&self.function.label, kind, operation, outcome);
    }
}

/// The limit of the node by which an operation was refused.
fn limit(refused: &Refused) -> Option<Limit> {
    match refused {
        Refused::TooLarge { .. } => Some(Limit::StoreSizes),
        Refused::Rate => Some(Limit::StoreRate),
        Refused::TooMany { .. } => Some(Limit::StoreOperations),
        Refused::Handles { .. } => Some(Limit::StoreHandles),
        Refused::HostBytes { .. } => Some(Limit::HostBytes),
        // The quota is the store's own.
        Refused::NoStore
        | Refused::Denied
        | Refused::Invalid(_)
        | Refused::Quota { .. }
        | Refused::Busy
        | Refused::Timeout
        | Refused::Unavailable => None,
    }
}
