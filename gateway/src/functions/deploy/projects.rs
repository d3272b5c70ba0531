//! Functions of a project: their checks and trials, and the step from the store to the data plane.
//!
//! What changes besides functions, and in which order, is not known here.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use store::{
    ActiveFunction, AppliedProject, Digest, NewChannel, ProjectQuotas, Published, Revision,
    Settings,
};

use crate::functions::{
    channels::AskedChannel,
    deploy::{
        Deployer, error::DeployError, granted::check_imports, state::DeployState, upload::Actor,
    },
    labels::OTHER,
    qualified_name::QualifiedName,
};

impl Deployer {
    /// Reads all settings of a function. Those that are left out have their defaults.
    pub(crate) fn whole_settings(
        &self,
        settings: Map<String, Value>,
    ) -> Result<Settings, DeployError> {
        self.state.read_settings(Value::Object(settings))
    }

    /// The newest revision of a function, if it waits for its owner: the channel `default` is tied to
    /// something else.
    pub(crate) async fn waiting(&self, active: &ActiveFunction) -> store::Result<Option<Revision>> {
        self.state.waiting(active).await
    }

    /// A channel as it is to be stored.
    pub(crate) fn new_channel<'a>(
        &self,
        actor: &'a Actor,
        name: &'a str,
        asked: AskedChannel,
    ) -> NewChannel<'a> {
        self.state.new_channel(actor, name, asked)
    }

    /// The quotas that the store enforces for a project.
    pub(crate) fn project_quotas(&self) -> ProjectQuotas {
        ProjectQuotas {
            functions: self.quotas(),
            routes: self.routes_max(),
            schedules: self.schedules_max(),
            queues: self.queues_max(),
            flows: self.flows_max(),
        }
    }

    /// Runs a change while nothing else changes a function, in a task of its own: a client that disconnects
    /// does not stop it halfway.
    pub(crate) async fn exclusively<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, DeployError>> + Send + 'static,
    ) -> Result<T, DeployError> {
        self.state.serialized(change).await
    }

    /// Starts an instance of an artifact with settings that it is to have, and returns its kind. Compiles it,
    /// if that is still to be done.
    pub(crate) async fn try_out(
        &self,
        actor: &Actor,
        function: &QualifiedName,
        (digest, settings): (Digest, &Settings),
    ) -> Result<String, DeployError> {
        let state = &self.state;
        state.check_tree(&function.tenant, settings).await?;
        let spec = state.catalog.spec(function.borrowed(), OTHER.into(), digest, settings);
        match state.pool.validate(spec, actor.token.uploader()).await {
            Ok(tried) => {
                check_imports(&tried.imports, settings)?;
                state.provide_stores(&function.tenant, settings).await?;
                Ok(tried.kind.as_str().to_owned())
            }
            Err(error) => {
                state.quarantine.suspect(&error, digest);
                Err(error.into())
            }
        }
    }

    /// The artifacts of a channel with settings of its own, and the settings that they run with there. Refuses
    /// settings that cannot be.
    pub(crate) fn settings_in(
        &self,
        channel: &str,
        published: &Published,
    ) -> Result<Vec<(Digest, Settings)>, DeployError> {
        let settings = self.state.settings_in(channel, published)?;
        for (_, settings) in &settings {
            self.state.check(settings)?;
            self.state.check_own_bytes(settings)?;
        }
        Ok(settings)
    }

    /// Refuses changes after which the settings of all functions would be too large.
    pub(crate) fn admit_settings(
        &self,
        applied: &AppliedProject,
        deleted: &[QualifiedName],
    ) -> Result<(), DeployError> {
        let catalog = &self.state.catalog;
        let mut before: u64 = deleted.iter().map(|name| catalog.settings_bytes_of(name)).sum();
        let mut after = 0;
        for published in &applied.functions {
            let Some((name, active)) = active(published) else { continue };
            before += catalog.settings_bytes_of(&name);
            after += catalog.entries(&name, &active, published.channels.clone()).settings_bytes();
        }
        self.state.check_all_bytes(before, after)
    }

    /// Has calls see functions that were stored. All of them are in memory before the first is seen. Channels
    /// in `kept` stay as they are: routes may still lead to them.
    pub(crate) async fn show(&self, functions: &[Published], kept: &BTreeSet<(String, String)>) {
        let state = &self.state;
        let catalog = &state.catalog;
        let mut all = Vec::new();
        for published in functions {
            let Some((name, active)) = active(published) else { continue };
            let mut entries = catalog.entries(&name, &active, published.channels.clone());
            let function = name.name.as_str();
            for (_, channel) in kept.iter().filter(|(owner, _)| owner == function) {
                if let Some(entry) = catalog.channel(&name.tenant, function, channel) {
                    entries.channels.entry(channel.clone()).or_insert(entry);
                }
            }
            state.pool.preload(entries.default.key, entries.default.spec()).await;
            all.push((name, entries));
        }
        for (name, entries) in all {
            state.show(name, entries).await;
        }
    }

    /// Counts the revisions that made room for others.
    pub(crate) fn count_removed(&self, functions: &[Published]) {
        let removed = functions.iter().map(|published| published.removed_revisions.len() as u64);
        self.state.removed_revisions.inc_by(removed.sum());
    }

    /// Has calls no longer see functions that were deleted. Calls in flight run to their end.
    pub(crate) async fn forget(&self, deleted: &[QualifiedName]) {
        for name in deleted {
            self.state.forget(name).await;
        }
    }
}

impl DeployState {
    /// Removes a function, whose row was deleted, from what calls see.
    pub(super) async fn forget(&self, name: &QualifiedName) {
        if let Some(entry) = self.catalog.remove(name) {
            self.pool.evict(&entry.key).await;
        }
    }
}

fn active(published: &Published) -> Option<(QualifiedName, ActiveFunction)> {
    let name = QualifiedName::try_from(&published.function).ok()?;
    let active =
        ActiveFunction { function: published.function.clone(), revision: published.active.clone() };
    Some((name, active))
}
