//! The right to change routes: from their check until calls see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::RouteSpec;
use store::{RouteRecord, Tenant};
use tokio::sync::OwnedMutexGuard;

use crate::{
    functions::{
        catalog::target::NamedTargets,
        routes::{
            OwnedRoutes, RouteError, Routes, RoutesState, StoredRoute, of_record,
            route::{Route, RouteAction},
        },
    },
    telemetry::clock::now_ms,
};

/// The right to change routes.
pub(crate) struct RoutesTurn {
    state: Arc<RoutesState>,
    owned: OwnedMutexGuard<OwnedRoutes>,
}

impl Routes {
    /// The right to change routes. Others wait for it.
    pub(crate) async fn take_turn(&self) -> RoutesTurn {
        let owned = Arc::clone(&self.state.owned).lock_owned().await;
        RoutesTurn { state: Arc::clone(&self.state), owned }
    }

    /// Sets a route, or replaces all of it. Refuses a new one if there are `max`. Returns whether it is
    /// new. `flow` says whether there is a flow.
    pub(crate) async fn put(
        &self,
        tenant: Tenant,
        name: &str,
        spec: RouteSpec,
        max: u64,
        flow: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<(StoredRoute, bool), RouteError> {
        let (this, name) = (self.clone(), name.to_owned());
        // In a task of its own: calls must see it even if the client disconnects.
        let put = tokio::spawn(async move {
            let mut turn = this.take_turn().await;
            let state = &this.state;
            let targets = NamedTargets::now(&state.catalog, &tenant);
            let puts = BTreeMap::from([(name, spec)]);
            let wrong = turn.check(&targets, flow, &puts, &BTreeSet::new()).await?;
            if let Some((_, error)) = wrong.into_iter().next() {
                return Err(error);
            }
            let (name, spec) = puts.into_iter().next().expect("it has one");
            let document = serde_json::to_string(&spec).expect("a route has a JSON form");
            let (record, is_new) =
                state.store.put_route(&tenant, &name, &document, max, now_ms()).await?;
            turn.show(&tenant, std::slice::from_ref(&record), &BTreeSet::new());
            let (created_ms, updated_ms) = (record.created_ms, record.updated_ms);
            Ok((StoredRoute { name, spec, created_ms, updated_ms }, is_new))
        });
        put.await.expect("the task does not panic and is not aborted")
    }

    /// Deletes a route. Returns whether there was one.
    pub(crate) async fn delete(&self, tenant: Tenant, name: &str) -> store::Result<bool> {
        let (this, name) = (self.clone(), name.to_owned());
        let delete = tokio::spawn(async move {
            let mut turn = this.take_turn().await;
            let deleted = this.state.store.delete_route(&tenant, &name).await?;
            turn.show(&tenant, &[], &BTreeSet::from([name]));
            Ok(deleted)
        });
        delete.await.expect("the task does not panic and is not aborted")
    }
}

impl RoutesTurn {
    /// Checks routes that are to be set, while those of `deleted` go. Returns what is wrong with each.
    /// `flow` says whether there will be a flow.
    pub(crate) async fn check(
        &self,
        targets: &NamedTargets<'_>,
        flow: impl Fn(&str) -> bool + Sync,
        puts: &BTreeMap<String, RouteSpec>,
        deleted: &BTreeSet<String>,
    ) -> store::Result<Vec<(String, RouteError)>> {
        let mut wrong = Vec::new();
        let mut routes: BTreeMap<&str, Arc<Route>> = BTreeMap::new();
        for (name, spec) in puts {
            match Route::new(name, spec).map_err(RouteError::Refused) {
                Ok(route) => {
                    if let Err(error) = self.check_one(targets, &flow, &route).await {
                        wrong.push((name.clone(), error));
                    }
                    routes.insert(name, Arc::new(route));
                }
                Err(error) => wrong.push((name.clone(), error)),
            }
        }
        let stay = |name: &String| !puts.contains_key(name) && !deleted.contains(name);
        let others = self.owned.get(targets.tenant()).into_iter().flatten();
        let others = others.filter(|(name, _)| stay(name));
        let others: Vec<(&str, &Route)> =
            others.map(|(name, (_, route))| (name.as_str(), &**route)).collect();
        for (name, route) in &routes {
            let before = routes.range::<&str, _>(..*name).map(|(other, route)| (*other, &**route));
            let mut all = others.iter().copied().chain(before);
            if let Some((other, _)) = all.find(|(_, other)| route.conflicts_with(other)) {
                wrong.push(((*name).to_owned(), RouteError::Conflict(other.to_owned())));
            }
        }
        Ok(wrong)
    }

    async fn check_one(
        &self,
        targets: &NamedTargets<'_>,
        flow: impl Fn(&str) -> bool,
        route: &Route,
    ) -> Result<(), RouteError> {
        match &route.action {
            // They may go later; the route then answers with what calls of them answer.
            RouteAction::Call { function, channel, .. } => {
                targets.check(function, channel.as_deref()).map_err(RouteError::Refused)?;
            }
            RouteAction::Flow { flow: name, .. } if !flow(name) => {
                return Err(RouteError::Refused(format!("flow: there is no flow {name:?}")));
            }
            RouteAction::Flow { .. }
            | RouteAction::Redirect { .. }
            | RouteAction::Answer { .. } => {}
        }
        self.state.check_secrets(targets.tenant(), route).await
    }

    /// Lets calls see routes that were stored, and no longer those that were deleted, all at once.
    pub(crate) fn show(
        &mut self,
        tenant: &Tenant,
        stored: &[RouteRecord],
        deleted: &BTreeSet<String>,
    ) {
        let routes = self.owned.entry(tenant.clone()).or_default();
        routes.retain(|name, _| !deleted.contains(name));
        for record in stored {
            match of_record(record) {
                Ok(route) => drop(routes.insert(record.name.clone(), route)),
                // It was checked before it was stored.
                Err(why) => tracing::error!(name = record.name, why, "skipped a route"),
            }
        }
        self.state.show(&self.owned, tenant);
    }
}
