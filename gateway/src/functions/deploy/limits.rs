//! Other limits for what is deployed already.

use std::sync::Arc;

use runtime_pool::State;
use store::{ActiveFunction, Quotas};

use super::{Deployer, Error, Shared};
use crate::{
    config::{Config, QuotasSection},
    functions::name::FunctionName,
};

impl Deployer {
    /// Lets the limits, ceilings and quotas of `config` hold: for calls that begin when this has
    /// returned, and for what is deployed from then on. Calls in flight end under those that they
    /// began with.
    pub(crate) async fn set_limits(&self, config: &Config) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let (limits, ceilings) = (config.limits.clone(), config.ceilings.clone());
        let most = config.quotas.clone();
        self.shared
            .in_turn(async move {
                // What can fail comes first.
                let functions = shared.store.all_active().await?;
                shared.catalog.set_bounds(limits, ceilings);
                shared.quotas.store(Arc::new(quotas(&most)));
                shared.pool.set_deploys_per_minute(most.compiles_per_minute);
                for function in &functions {
                    // The catalog has said of the others that they are none.
                    if let Ok(name) = FunctionName::try_from(function.function.name.as_str()) {
                        shared.hold_anew(name, function).await;
                    }
                }
                Ok(())
            })
            .await
    }
}

impl Shared {
    /// Holds a function to other limits, if others hold for it.
    async fn hold_anew(&self, name: FunctionName, function: &ActiveFunction) {
        let Some((anew, before)) = self.catalog.held_anew(&name, function) else { return };
        // As with another revision: resident before it is visible, if it was resident.
        if self.pool.state(&before.key) == State::Loaded {
            self.pool.adopt(anew.key, anew.source.clone()).await;
        }
        self.catalog.replace(name, anew);
        self.pool.evict(&before.key).await;
    }
}

/// The same as the store wants it.
pub(crate) fn quotas(section: &QuotasSection) -> Quotas {
    Quotas {
        functions: section.functions as u64,
        artifact_bytes: section.artifact_bytes,
        idempotency_keys: section.idempotency_keys as u64,
    }
}
