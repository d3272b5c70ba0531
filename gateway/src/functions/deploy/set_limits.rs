//! New limits for functions that are deployed already.

use std::{collections::HashMap, sync::Arc};

use runtime_pool::State;
use store::{ActiveFunction, ChannelTargets};

use crate::{
    config::Config,
    functions::{
        deploy::{Deployer, error::DeployError, state::DeployState},
        qualified_name::QualifiedName,
    },
};

impl Deployer {
    /// Applies the limits, ceilings and quotas of `config` to calls that begin after this has
    /// returned, and to later deploys. Calls in flight keep the limits they began with.
    pub(crate) async fn set_limits(&self, config: &Config) -> Result<(), DeployError> {
        let state = Arc::clone(&self.state);
        let (limits, ceilings) = (config.limits, config.ceilings);
        let section = config.quotas.clone();
        self.state
            .serialized(async move {
                // First, because it is the only step that can fail.
                let functions = state.store.all_active().await?;
                let mut channels = HashMap::new();
                for id in state.store.functions_with_channels().await? {
                    channels.insert(id, state.store.channel_targets(id).await?);
                }
                state.catalog.set_bounds(limits, ceilings);
                state.pool.set_deploys_per_minute(section.compiles_per_minute);
                state.pool.set_code_bytes(section.code_bytes);
                state.quotas.store(Arc::new(section));
                for active in &functions {
                    // The catalog has logged names that are not valid, and skipped them.
                    if let Ok(name) = QualifiedName::try_from(&active.function) {
                        let channels = channels.remove(&active.function.id).unwrap_or_default();
                        // Boxed: the future is large, and limits change rarely.
                        Box::pin(state.apply_limits(name, active, channels)).await;
                    }
                }
                Ok(())
            })
            .await
    }
}

impl DeployState {
    /// Replaces a function's catalog entry if its limits have changed.
    async fn apply_limits(
        &self,
        name: QualifiedName,
        active: &ActiveFunction,
        channels: Vec<ChannelTargets>,
    ) {
        let Some((entries, before)) = self.catalog.with_current_limits(&name, active, channels)
        else {
            return;
        };
        // As with a new revision: resident before it is visible, if it was resident.
        if self.pool.state(&before.key) == State::Loaded {
            self.pool.preload(entries.default.key, entries.default.spec()).await;
        }
        self.catalog.replace(name, entries);
        self.pool.evict(&before.key).await;
    }
}
