//! Finds what an address of a function names: its active revision, another one, or a channel.

use std::sync::Arc;

use store::{DEFAULT_CHANNEL, Tenant};

use crate::{
    edge::routes::{self, At, Route},
    functions::{
        catalog::{Catalog, CatalogEntry},
        channels::revision_urls::RevisionUrls,
        name::FunctionName,
        qualified_name::QualifiedName,
    },
    problem::Problem,
};

/// By which way a call comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum Way {
    /// By an address of the function's own, which private functions do not have.
    Address,
    /// By a route of its owner, or from another function.
    Within,
}

/// What can be called.
pub(in crate::edge) struct Targets {
    catalog: Arc<Catalog>,
    revisions: RevisionUrls,
}

impl Targets {
    pub(super) fn new(catalog: Arc<Catalog>, revisions: RevisionUrls) -> Self {
        Self { catalog, revisions }
    }

    /// The revision, or channel, of a function of `tenant` that a route names.
    pub(in crate::edge) async fn find(
        &self,
        tenant: &Tenant,
        route: &Route<'_>,
        way: Way,
    ) -> Result<Arc<CatalogEntry>, Problem> {
        if route.at == At::Default
            && let Some(entry) = self.function(tenant, route.function, way)
        {
            return Ok(entry);
        }
        // Boxed: the future is large, and such calls are rare.
        Box::pin(self.addressed(tenant, route, way)).await
    }

    /// A function. One that is private does not exist for those who call it by an address.
    fn function(&self, tenant: &Tenant, name: &str, way: Way) -> Option<Arc<CatalogEntry>> {
        self.catalog.get(tenant, name).filter(|entry| way == Way::Within || !entry.private)
    }

    /// What an address other than a function's plain one names.
    async fn addressed(
        &self,
        tenant: &Tenant,
        route: &Route<'_>,
        way: Way,
    ) -> Result<Arc<CatalogEntry>, Problem> {
        let not_found = || Problem::function_not_found(route.function);
        let (at, function) = match route.at {
            At::Default => routes::labelled(route.function).ok_or_else(not_found)?,
            at => (at, route.function),
        };
        let default = self.function(tenant, function, way).ok_or_else(not_found)?;
        match at {
            At::Default | At::Channel(DEFAULT_CHANNEL) => Ok(default),
            At::Channel(channel) => self
                .catalog
                .channel(tenant, function, channel)
                .ok_or_else(|| Problem::channel_not_found(function, channel)),
            At::Revision(_) if !default.revision_urls => Err(Problem::revision_urls_off(function)),
            At::Revision(revision) => {
                let name = FunctionName::try_from(function).map_err(|_| not_found())?;
                let name = QualifiedName { tenant: tenant.clone(), name };
                let found = self.revisions.get(&name, &default, revision).await;
                found
                    .map_err(|error| Problem::of_store(&error))?
                    .ok_or_else(|| Problem::revision_not_found(function, revision))
            }
        }
    }
}
