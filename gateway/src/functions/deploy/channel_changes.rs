//! Setting and deleting channels.

use store::{ActiveFunction, Channel, NewChannel, Published};

use crate::{
    clock::now_ms,
    functions::{
        channels::AskedChannel,
        deploy::{
            Deployer, change_condition::ChangeCondition, error::DeployError, state::DeployState,
            upload::Actor,
        },
        qualified_name::QualifiedName,
    },
};

impl Deployer {
    /// Sets a channel, or makes it, and returns it. `None` if there is no such function.
    pub(crate) async fn put_channel(
        &self,
        actor: &Actor,
        function: QualifiedName,
        channel: String,
        asked: AskedChannel,
        precondition: ChangeCondition,
    ) -> Result<Option<Channel>, DeployError> {
        self.change(actor, function, precondition, async move |state, function, actor| {
            let AskedChannel { follow, weights, sticky } = asked;
            let new = NewChannel {
                name: &channel,
                follow,
                weights,
                sticky,
                max: state.quotas.load().channels_per_function as u32,
                actor: actor.recorded(),
                now_ms: now_ms(),
            };
            let (tenant, name) = (&function.tenant, function.name.as_str());
            let admit = |published: &Published| state.admit_settings(&function, published);
            let changed = state.store.put_channel(tenant, name, new, admit).await?;
            let channels = changed.iter().flat_map(|published| &published.channels);
            let mut set = channels.map(|targets| &targets.channel);
            let set = set.find(|set| set.name == channel).cloned();
            state.activate_if_published(function, changed).await;
            Ok(set)
        })
        .await
    }

    /// Deletes a channel. Returns whether there was one.
    pub(crate) async fn delete_channel(
        &self,
        actor: &Actor,
        function: QualifiedName,
        channel: String,
        precondition: ChangeCondition,
    ) -> Result<bool, DeployError> {
        self.change(actor, function, precondition, async move |state, function, actor| {
            let (tenant, name) = (&function.tenant, function.name.as_str());
            let actor = actor.recorded();
            let deleted =
                state.store.delete_channel(tenant, name, &channel, actor, now_ms()).await?;
            Ok(state.activate_if_published(function, deleted).await.is_some())
        })
        .await
    }
}

impl DeployState {
    /// Refuses a change of channels after which the settings of all functions would be too large.
    fn admit_settings(
        &self,
        function: &QualifiedName,
        published: &Published,
    ) -> Result<(), DeployError> {
        let active = ActiveFunction {
            function: published.function.clone(),
            revision: published.active.clone(),
        };
        let entries = self.catalog.entries(function, &active, published.channels.clone());
        let (before, after) = (self.catalog.settings_bytes_of(function), entries.settings_bytes());
        let all = self.catalog.settings_bytes().saturating_sub(before) + after;
        let max_bytes = self.quotas.load().all_settings_bytes;
        match after > before && all > max_bytes {
            true => Err(DeployError::SettingsQuota { max_bytes }),
            false => Ok(()),
        }
    }
}
