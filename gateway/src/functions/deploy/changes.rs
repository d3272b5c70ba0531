//! Changes of a function without an upload, each if the function is in the state that was meant.

use std::sync::Arc;

use serde_json::Value;
use store::{ActiveFunction, Published};

use super::{Condition, Deployer, Error, Shared, TENANT, now_ms};
use crate::functions::name::FunctionName;

impl Deployer {
    /// Changes settings: a new revision with the same artifact.
    pub(crate) async fn change_settings(
        &self,
        name: FunctionName,
        patch: Value,
        condition: Condition,
    ) -> Result<Option<ActiveFunction>, Error> {
        let shared = Arc::clone(&self.shared);
        let Some(before) = shared.store.function(TENANT, name.as_str()).await? else {
            return Ok(None);
        };
        condition.check(Some(&before))?;
        let settings = shared.patched(Some(&before), Some(patch))?;
        if settings == before.revision.settings {
            return Ok(Some(before));
        }
        // A limit may be less than what an instance begins with.
        let digest = before.revision.digest;
        let source = shared.catalog.source(super::OTHER.into(), digest, &settings);
        if let Err(error) = shared.pool.prepare(source).await {
            shared.quarantine.suspect(&error, digest);
            return Err(error.into());
        }
        self.when_it_holds(name, condition, async move |shared, name| {
            let expected = before.revision.number;
            let changed = shared
                .store
                .change_settings(TENANT, name.as_str(), expected, settings, now_ms())
                .await?;
            Ok(shared.activated(name, changed).await)
        })
        .await
    }

    /// Changes what its owner says about it.
    pub(crate) async fn describe(
        &self,
        name: FunctionName,
        description: String,
        condition: Condition,
    ) -> Result<bool, Error> {
        self.when_it_holds(name, condition, async move |shared, name| {
            let described =
                shared.store.describe(TENANT, name.as_str(), &description, now_ms()).await?;
            Ok(described.is_some())
        })
        .await
    }

    /// Makes an older revision the active one again.
    pub(crate) async fn activate(
        &self,
        name: FunctionName,
        revision: u32,
        condition: Condition,
    ) -> Result<Option<ActiveFunction>, Error> {
        self.when_it_holds(name, condition, async move |shared, name| {
            let activated =
                shared.store.activate(TENANT, name.as_str(), revision, now_ms()).await?;
            Ok(shared.activated(name, activated).await)
        })
        .await
    }

    /// Removes a function with all its revisions. Calls in flight end as they would have.
    pub(crate) async fn delete(
        &self,
        name: FunctionName,
        condition: Condition,
    ) -> Result<bool, Error> {
        self.when_it_holds(name, condition, async move |shared, name| {
            let deleted = shared.store.delete_function(TENANT, name.as_str()).await?;
            if let Some(active) = shared.catalog.remove(name.as_str()) {
                shared.pool.evict(&active.key).await;
            }
            Ok(deleted)
        })
        .await
    }

    /// Makes a change in its turn, if the function is then as was meant: nobody else changes it in
    /// between. Of one that is not there the change itself says so.
    async fn when_it_holds<T, F>(
        &self,
        name: FunctionName,
        condition: Condition,
        change: impl FnOnce(Arc<Shared>, FunctionName) -> F + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let shared = Arc::clone(&self.shared);
        self.shared
            .in_turn(async move {
                if !condition.is_none()
                    && let Some(now) = shared.store.function(TENANT, name.as_str()).await?
                {
                    condition.check(Some(&now))?;
                }
                change(shared, name).await
            })
            .await
    }
}

impl Shared {
    /// Tells the data plane of it, if there is such a function.
    async fn activated(
        &self,
        name: FunctionName,
        published: Option<Published>,
    ) -> Option<ActiveFunction> {
        match published {
            // Boxed, as all that loads is large, and seldom.
            Some(published) => Some(Box::pin(self.activate(name, published)).await),
            None => None,
        }
    }
}
