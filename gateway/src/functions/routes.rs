//! Routes of owners: hosts and paths that lead to functions, to other addresses, or to answers.
//!
//! The store has them as their owners wrote them. Calls see a table that is made of all of them, and
//! swapped as a whole: a request sees the table before a change or the one after it. When a change
//! is acknowledged, only the one after it.

pub(crate) mod auth;
pub(crate) mod certificates;
pub(crate) mod coding;
pub(crate) mod cors;
pub(crate) mod fields;
pub(crate) mod measured;
mod path;
pub(crate) mod rate;
pub(crate) mod route;
pub(crate) mod table;
pub(crate) mod turn;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::{ArcSwap, Guard};
use gateway_api::RouteSpec;
use store::{RouteRecord, Store, Tenant};
use tokio::sync::Mutex;

use self::{route::Route, table::RouteTable};
use crate::functions::catalog::Catalog;

/// Why a route was not set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    #[error("{0}")]
    Refused(String),
    #[error("the route {0:?} would take the same requests")]
    Conflict(String),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A route, as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredRoute {
    pub(crate) name: String,
    pub(crate) spec: RouteSpec,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
}

/// The routes of all tenants. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    state: Arc<RoutesState>,
}

#[derive(Debug)]
struct RoutesState {
    store: Store,
    catalog: Arc<Catalog>,
    /// Held from the check of a change until calls see it.
    owned: Arc<Mutex<OwnedRoutes>>,
    tables: ArcSwap<Tables>,
}

type OwnedRoutes = HashMap<Tenant, BTreeMap<String, (StoredRoute, Arc<Route>)>>;
/// Each tenant with routes has one.
type Tables = HashMap<Tenant, Arc<RouteTable>>;

impl Routes {
    /// Reads all routes.
    pub(crate) async fn load(store: &Store, catalog: &Arc<Catalog>) -> store::Result<Self> {
        let mut owned = OwnedRoutes::new();
        for record in store.all_routes().await? {
            match of_record(&record) {
                Ok(route) => {
                    owned.entry(record.tenant).or_default().insert(record.name, route);
                }
                // It stays in the store, for a version that knows it.
                Err(why) => tracing::error!(name = record.name, why, "skipped a route"),
            }
        }
        let tables = owned.iter().map(|(tenant, routes)| (tenant.clone(), table(routes)));
        let tables = ArcSwap::from_pointee(tables.collect());
        let (store, catalog, owned) =
            (store.clone(), Arc::clone(catalog), Arc::new(Mutex::new(owned)));
        Ok(Self { state: Arc::new(RoutesState { store, catalog, owned, tables }) })
    }

    /// The tables as they are now. Takes no lock.
    pub(crate) fn tables(&self) -> Guard<Arc<Tables>> {
        self.state.tables.load()
    }

    /// The routes of a tenant after a name, at most `limit`.
    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        after: &str,
        limit: usize,
    ) -> Vec<StoredRoute> {
        let owned = self.state.owned.lock().await;
        let all = owned.get(tenant).into_iter().flatten();
        let from = all.skip_while(|(name, _)| name.as_str() <= after);
        from.take(limit).map(|(_, (stored, _))| stored.clone()).collect()
    }

    /// The names and hosts of a tenant's routes that name a host.
    pub(crate) async fn hosts(&self, tenant: &Tenant) -> Vec<(String, String)> {
        let owned = self.state.owned.lock().await;
        let routes = owned.get(tenant).into_iter().flatten();
        let hosts = routes.filter_map(|(name, (stored, _))| {
            stored.spec.host.clone().map(|host| (name.clone(), host))
        });
        hosts.collect()
    }

    /// A route.
    pub(crate) async fn get(&self, tenant: &Tenant, name: &str) -> Option<StoredRoute> {
        let owned = self.state.owned.lock().await;
        owned.get(tenant)?.get(name).map(|(stored, _)| stored.clone())
    }

    /// A route as calls see it.
    pub(crate) async fn find(&self, tenant: &Tenant, name: &str) -> Option<Arc<Route>> {
        let owned = self.state.owned.lock().await;
        owned.get(tenant)?.get(name).map(|(_, route)| Arc::clone(route))
    }
}

impl RoutesState {
    /// Whether the secrets that a route names are there. They may go later; no request can be signed with them
    /// then.
    async fn check_secrets(&self, tenant: &Tenant, route: &Route) -> Result<(), RouteError> {
        let Some(auth) = &route.auth else { return Ok(()) };
        let named: Vec<&str> = auth.secrets().collect();
        if named.is_empty() {
            return Ok(());
        }
        let stored = self.store.secrets(tenant).await?;
        let is_there = |name: &&str| stored.iter().any(|secret| secret.name == *name);
        match named.into_iter().find(|name| !is_there(name)) {
            None => Ok(()),
            Some(name) => Err(RouteError::Refused(format!(
                "hmac.keys: there is no secret {name:?}; set it with `mayfly secret set {name}`"
            ))),
        }
    }

    /// Lets calls see the routes of a tenant.
    fn show(&self, owned: &OwnedRoutes, tenant: &Tenant) {
        let mut tables = Tables::clone(&self.tables.load());
        match owned.get(tenant).filter(|routes| !routes.is_empty()) {
            Some(routes) => tables.insert(tenant.clone(), table(routes)),
            None => tables.remove(tenant),
        };
        self.tables.store(Arc::new(tables));
    }
}

fn table(routes: &BTreeMap<String, (StoredRoute, Arc<Route>)>) -> Arc<RouteTable> {
    Arc::new(RouteTable::new(routes.values().map(|(_, route)| route)))
}

fn of_record(record: &RouteRecord) -> Result<(StoredRoute, Arc<Route>), String> {
    let spec: RouteSpec =
        serde_json::from_str(&record.document).map_err(|error| error.to_string())?;
    let route = Arc::new(Route::new(&record.name, &spec)?);
    let stored = StoredRoute {
        name: record.name.clone(),
        spec,
        created_ms: record.created_ms,
        updated_ms: record.updated_ms,
    };
    Ok((stored, route))
}
