//! Changes of a function that upload no artifact.

use std::sync::Arc;

use serde_json::Value;
use store::{ActiveFunction, Published};

use crate::{
    clock::now_ms,
    functions::{
        catalog::OTHER,
        deploy::{
            Deployer, TENANT, change_condition::ChangeCondition, error::DeployError, shared::Shared,
        },
        name::FunctionName,
    },
};

impl Deployer {
    /// Changes settings: makes a new revision with the same artifact. `None` if there is no such
    /// function.
    pub(crate) async fn change_settings(
        &self,
        name: FunctionName,
        patch: Value,
        precondition: ChangeCondition,
    ) -> Result<Option<ActiveFunction>, DeployError> {
        let shared = Arc::clone(&self.shared);
        let Some(before) = shared.store.function(TENANT, name.as_str()).await? else {
            return Ok(None);
        };
        precondition.check(Some(&before))?;
        let settings = shared.patched(Some(&before), Some(patch))?;
        if settings == before.revision.settings {
            return Ok(Some(before));
        }
        // The new limit may be less than what an instance needs to start.
        let digest = before.revision.digest;
        let source = shared.catalog.source(OTHER.into(), digest, &settings);
        if let Err(error) = shared.pool.prepare(source).await {
            shared.quarantine.suspect(&error, digest);
            return Err(error.into());
        }
        self.change_if(name, precondition, async move |shared, name| {
            let expected = before.revision.number;
            let changed = shared
                .store
                .change_settings(TENANT, name.as_str(), expected, settings, now_ms())
                .await?;
            Ok(shared.activate_if_published(name, changed).await)
        })
        .await
    }

    /// Changes the description. Returns whether there is such a function.
    pub(crate) async fn describe(
        &self,
        name: FunctionName,
        description: String,
        precondition: ChangeCondition,
    ) -> Result<bool, DeployError> {
        self.change_if(name, precondition, async move |shared, name| {
            let described =
                shared.store.describe(TENANT, name.as_str(), &description, now_ms()).await?;
            Ok(described.is_some())
        })
        .await
    }

    /// Makes an older revision the active one again. `None` if there is no such function or
    /// revision.
    pub(crate) async fn activate(
        &self,
        name: FunctionName,
        revision: u32,
        precondition: ChangeCondition,
    ) -> Result<Option<ActiveFunction>, DeployError> {
        self.change_if(name, precondition, async move |shared, name| {
            let activated =
                shared.store.activate(TENANT, name.as_str(), revision, now_ms()).await?;
            Ok(shared.activate_if_published(name, activated).await)
        })
        .await
    }

    /// Removes a function with all its revisions. Calls in flight run to their end. Returns
    /// whether there was such a function.
    pub(crate) async fn delete(
        &self,
        name: FunctionName,
        precondition: ChangeCondition,
    ) -> Result<bool, DeployError> {
        self.change_if(name, precondition, async move |shared, name| {
            let deleted = shared.store.delete_function(TENANT, name.as_str()).await?;
            if let Some(entry) = shared.catalog.remove(name.as_str()) {
                shared.pool.evict(&entry.key).await;
            }
            Ok(deleted)
        })
        .await
    }

    /// Makes a change if the function is in a permitted state when its turn comes; no other change
    /// can come in between. The change itself reports a function that does not exist.
    async fn change_if<T, F>(
        &self,
        name: FunctionName,
        precondition: ChangeCondition,
        change: impl FnOnce(Arc<Shared>, FunctionName) -> F + Send + 'static,
    ) -> Result<T, DeployError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DeployError>> + Send,
    {
        let shared = Arc::clone(&self.shared);
        self.shared
            .serialized(async move {
                if !precondition.is_none()
                    && let Some(current) = shared.store.function(TENANT, name.as_str()).await?
                {
                    precondition.check(Some(&current))?;
                }
                change(shared, name).await
            })
            .await
    }
}

impl Shared {
    async fn activate_if_published(
        &self,
        name: FunctionName,
        published: Option<Published>,
    ) -> Option<ActiveFunction> {
        match published {
            // Boxed: the future that loads a function is large, and seldom needed.
            Some(published) => Some(Box::pin(self.activate(name, published)).await),
            None => None,
        }
    }
}
