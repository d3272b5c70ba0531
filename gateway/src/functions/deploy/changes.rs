//! Changes of a function that upload no artifact.

use std::sync::Arc;

use serde_json::Value;
use store::{NewSettings, Published};

use crate::{
    functions::{
        deploy::{
            Deployer,
            change_condition::ChangeCondition,
            error::DeployError,
            granted::check_imports,
            state::{Activated, DeployState},
            upload::Actor,
        },
        labels::OTHER,
        qualified_name::QualifiedName,
    },
    telemetry::clock::now_ms,
};

impl Deployer {
    /// Changes settings: makes a new revision with the same artifact. A description is changed with
    /// them, or not at all. `None` if there is no such function.
    pub(crate) async fn change_settings(
        &self,
        actor: &Actor,
        function: QualifiedName,
        patch: Value,
        description: Option<String>,
        precondition: ChangeCondition,
    ) -> Result<Option<Activated>, DeployError> {
        let state = Arc::clone(&self.state);
        let Some(before) = state.store.function(&function.tenant, function.name.as_str()).await?
        else {
            return Ok(None);
        };
        precondition.check(Some(&before))?;
        let settings = state.patched(Some(&before), Some(patch))?;
        if settings == before.revision.settings {
            return match description {
                Some(description) => {
                    self.describe(actor, function, description, precondition).await
                }
                None => Ok(Some(before.into())),
            };
        }
        state.admit_change(&actor.token)?;
        // The new limit may be less than what an instance needs to start.
        let digest = before.revision.digest;
        state.check_tree(&function.tenant, &settings).await?;
        let spec = state.catalog.spec(function.borrowed(), OTHER.into(), digest, &settings);
        match state.pool.validate(spec, actor.token.uploader()).await {
            Ok(inspection) => check_imports(&inspection.imports, &settings)?,
            Err(error) => {
                state.quarantine.suspect(&error, digest);
                return Err(error.into());
            }
        }
        state.provide_stores(&function.tenant, &settings).await?;
        let actor = actor.clone();
        self.change_if(function, precondition, async move |state, function| {
            let new = NewSettings {
                tenant: function.tenant.clone(),
                function: function.name.as_str(),
                expected_revision: before.revision.number,
                settings,
                description: description.as_deref(),
                actor: actor.recorded(),
                quotas: state.store_quotas(),
                now_ms: now_ms(),
            };
            let changed = state.store.change_settings(new).await?;
            Ok(state.activate_if_published(function, changed).await)
        })
        .await
    }

    /// Changes the description. `None` if there is no such function.
    pub(crate) async fn describe(
        &self,
        actor: &Actor,
        function: QualifiedName,
        description: String,
        precondition: ChangeCondition,
    ) -> Result<Option<Activated>, DeployError> {
        self.change(actor, function, precondition, async move |state, function, _| {
            let (tenant, name) = (&function.tenant, function.name.as_str());
            let described = state.store.describe(tenant, name, &description, now_ms()).await?;
            Ok(described.map(Activated::from))
        })
        .await
    }

    /// Makes an older revision the active one again. `None` if there is no such function or
    /// revision.
    pub(crate) async fn activate(
        &self,
        actor: &Actor,
        function: QualifiedName,
        revision: u32,
        precondition: ChangeCondition,
    ) -> Result<Option<Activated>, DeployError> {
        self.change(actor, function, precondition, async move |state, function, actor| {
            let (tenant, name) = (&function.tenant, function.name.as_str());
            let actor = actor.recorded();
            let activated = state.store.activate(tenant, name, revision, actor, now_ms()).await?;
            Ok(state.activate_if_published(function, activated).await)
        })
        .await
    }

    /// Makes the revision active that was active before the current one. `None` if there is no such
    /// function.
    pub(crate) async fn roll_back(
        &self,
        actor: &Actor,
        function: QualifiedName,
        precondition: ChangeCondition,
    ) -> Result<Option<Activated>, DeployError> {
        self.change(actor, function, precondition, async move |state, function, actor| {
            let (tenant, name) = (&function.tenant, function.name.as_str());
            let actor = actor.recorded();
            let rolled_back = match state.store.roll_back(tenant, name, actor, now_ms()).await {
                Err(store::Error::Conflict) => return Err(DeployError::NothingToRollBackTo),
                other => other?,
            };
            Ok(state.activate_if_published(function, rolled_back).await)
        })
        .await
    }

    /// Removes a function with all its revisions. Calls in flight run to their end. Returns
    /// whether there was such a function.
    pub(crate) async fn delete(
        &self,
        function: QualifiedName,
        precondition: ChangeCondition,
    ) -> Result<bool, DeployError> {
        self.change_if(function, precondition, async move |state, function| {
            let deleted =
                state.store.delete_function(&function.tenant, function.name.as_str()).await?;
            state.forget(&function).await;
            Ok(deleted)
        })
        .await
    }

    /// Counts a change, and makes it as [`Self::change_if`] does.
    pub(super) async fn change<T, F>(
        &self,
        actor: &Actor,
        function: QualifiedName,
        precondition: ChangeCondition,
        change: impl FnOnce(Arc<DeployState>, QualifiedName, Actor) -> F + Send + 'static,
    ) -> Result<T, DeployError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DeployError>> + Send,
    {
        self.state.admit_change(&actor.token)?;
        let actor = actor.clone();
        self.change_if(function, precondition, |state, function| change(state, function, actor))
            .await
    }

    /// Makes a change if the function is in a permitted state when its turn comes; no other change
    /// can come in between. The change itself reports a function that does not exist.
    pub(super) async fn change_if<T, F>(
        &self,
        function: QualifiedName,
        precondition: ChangeCondition,
        change: impl FnOnce(Arc<DeployState>, QualifiedName) -> F + Send + 'static,
    ) -> Result<T, DeployError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DeployError>> + Send,
    {
        let state = Arc::clone(&self.state);
        self.state
            .serialized(async move {
                if !precondition.is_none()
                    && let Some(current) =
                        state.store.function(&function.tenant, function.name.as_str()).await?
                {
                    precondition.check(Some(&current))?;
                }
                change(state, function).await
            })
            .await
    }
}

impl DeployState {
    pub(super) async fn activate_if_published(
        &self,
        function: QualifiedName,
        published: Option<Published>,
    ) -> Option<Activated> {
        match published {
            // Boxed: the future that loads a function is large, and rarely needed.
            Some(published) => Some(Box::pin(self.activate(function, published)).await),
            None => None,
        }
    }
}
