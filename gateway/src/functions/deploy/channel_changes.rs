//! Setting and deleting channels.

use store::{
    ActiveFunction, Channel, ChannelTargets, DecidedCanary, Digest, NewChannel, Published, Settings,
};

use crate::{
    functions::{
        channels::{
            AskedChannel,
            meters::{CanaryMeter, Judged},
            overlay,
        },
        deploy::{
            Deployer, change_condition::ChangeCondition, error::DeployError,
            granted::check_imports, state::DeployState, upload::Actor,
        },
        labels::OTHER,
        qualified_name::QualifiedName,
    },
    telemetry::clock::now_ms,
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
        if !asked.options.settings.is_empty() {
            self.try_settings(actor, &function, &channel, &asked).await?;
        }
        self.change(actor, function, precondition, async move |state, function, actor| {
            let new = state.new_channel(&actor, &channel, asked);
            let (tenant, name) = (&function.tenant, function.name.as_str());
            let admit = |published: &Published| state.admit_channel(&function, &channel, published);
            let changed = state.store.put_channel(tenant, name, new, admit).await?;
            let channels = changed.iter().flat_map(|published| &published.channels);
            let mut set = channels.map(|targets| &targets.channel);
            let set = set.find(|set| set.name == channel).cloned();
            state.activate_if_published(function, changed).await;
            Ok(set)
        })
        .await
    }

    /// Starts an instance of each revision of a channel with the settings that it is to have: they may
    /// be less than what an instance needs to start.
    async fn try_settings(
        &self,
        actor: &Actor,
        function: &QualifiedName,
        channel: &str,
        asked: &AskedChannel,
    ) -> Result<(), DeployError> {
        let state = &self.state;
        let (tenant, name) = (&function.tenant, function.name.as_str());
        let new = state.new_channel(actor, channel, asked.clone());
        let Some(planned) = state.store.planned_channel(tenant, name, &new).await? else {
            return Ok(());
        };
        state.admit_channel(function, channel, &planned)?;
        for (digest, settings) in state.settings_in(channel, &planned)? {
            let spec = state.catalog.spec(function.borrowed(), OTHER.into(), digest, &settings);
            match state.pool.validate(spec, actor.token.uploader()).await {
                Ok(inspection) => check_imports(&inspection.imports, &settings)?,
                Err(error) => {
                    state.quarantine.suspect(&error, digest);
                    return Err(error.into());
                }
            }
            state.provide_stores(tenant, &settings).await?;
        }
        Ok(())
    }

    /// Carries out what was decided of a canary. Returns whether that was still in the same step.
    pub(crate) async fn decide_canary(
        &self,
        meter: &CanaryMeter,
        judged: Judged,
    ) -> Result<bool, DeployError> {
        let figures = judged.figures(meter);
        let (function_id, channel) = (meter.function_id, meter.channel.clone());
        let canary = meter.canary.clone();
        let condition = ChangeCondition::default();
        self.change_if(meter.function.clone(), condition, async move |state, function| {
            let (tenant, name) = (&function.tenant, function.name.as_str());
            let decided =
                DecidedCanary { function_id, function: name, channel: &channel, canary: &canary };
            let published =
                state.store.decide_canary(tenant, decided, judged.decision, &figures, now_ms());
            let published = published.await?;
            Ok(state.activate_if_published(function, published).await.is_some())
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
    pub(super) fn new_channel<'a>(
        &self,
        actor: &'a Actor,
        name: &'a str,
        asked: AskedChannel,
    ) -> NewChannel<'a> {
        let AskedChannel { follow, weights, sticky, options, canary } = asked;
        let now_ms = now_ms();
        NewChannel {
            name,
            follow,
            weights,
            sticky,
            options,
            canary: canary.map(|canary| canary.begun(now_ms)),
            max: self.quotas.load().channels_per_function as u32,
            actor: actor.recorded(),
            now_ms,
        }
    }

    /// Refuses a channel with settings that cannot be, or after which those of all functions would be
    /// too large.
    fn admit_channel(
        &self,
        function: &QualifiedName,
        channel: &str,
        published: &Published,
    ) -> Result<(), DeployError> {
        for (_, settings) in self.settings_in(channel, published)? {
            self.check(&settings)?;
            self.check_own_bytes(&settings)?;
        }
        let active = ActiveFunction {
            function: published.function.clone(),
            revision: published.active.clone(),
        };
        let entries = self.catalog.entries(function, &active, published.channels.clone());
        self.check_all_bytes(self.catalog.settings_bytes_of(function), entries.settings_bytes())
    }

    /// The artifacts of a channel with settings of its own, and the settings that they run with there.
    pub(super) fn settings_in(
        &self,
        channel: &str,
        published: &Published,
    ) -> Result<Vec<(Digest, Settings)>, DeployError> {
        let mut channels = published.channels.iter();
        let set = channels.find(|targets| targets.channel.name == channel);
        let Some(ChannelTargets { channel, revisions }) =
            set.filter(|set| !set.channel.options.settings.is_empty())
        else {
            return Ok(Vec::new());
        };
        let merged = revisions.iter().map(|revision| {
            let settings = overlay::merged(&revision.settings, &channel.options.settings);
            Ok((revision.digest, settings.map_err(DeployError::Settings)?))
        });
        merged.collect()
    }
}
