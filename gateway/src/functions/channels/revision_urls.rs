//! Revisions that are called by an address of their own, whichever is active.
//!
//! The catalog holds the active revisions. Others are read from the store when they are called, and
//! kept for a while.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use store::{ActiveFunction, Store};
use tokio::sync::Semaphore;

use crate::functions::{
    catalog::{Catalog, CatalogEntry},
    qualified_name::QualifiedName,
};

/// Revisions that are kept. Arbitrary, more than are compared at a time.
const KEPT: u64 = 1_000;
/// How long one is kept, and so how long one that was removed may still answer.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Look-ups in the store at once: a caller that guesses numbers must not keep the database busy.
const LOOKUPS: usize = 2;

/// Identifies a revision under the operator's current limits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct RevisionKey {
    function: i64,
    revision: u32,
    generation: u32,
}

/// The revisions that were called by their own address lately.
pub(crate) struct RevisionUrls {
    store: Store,
    catalog: Arc<Catalog>,
    /// `None` for a revision that does not exist.
    kept: Cache<RevisionKey, Option<Arc<CatalogEntry>>>,
    lookups: Semaphore,
}

impl RevisionUrls {
    pub(crate) fn new(store: &Store, catalog: &Arc<Catalog>) -> Self {
        Self {
            store: store.clone(),
            catalog: Arc::clone(catalog),
            kept: Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build(),
            lookups: Semaphore::new(LOOKUPS),
        }
    }

    /// A revision of the function whose active revision is `active`. `None` if there is no such
    /// revision.
    pub(crate) async fn get(
        &self,
        name: &QualifiedName,
        active: &CatalogEntry,
        revision: u32,
    ) -> Result<Option<Arc<CatalogEntry>>, Arc<store::Error>> {
        let generation = active.key.generation;
        let key = RevisionKey { function: active.key.function, revision, generation };
        self.kept.try_get_with(key, self.look_up(name, revision)).await
    }

    async fn look_up(
        &self,
        name: &QualifiedName,
        number: u32,
    ) -> store::Result<Option<Arc<CatalogEntry>>> {
        let _turn = self.lookups.acquire().await;
        let (tenant, function) = (&name.tenant, name.name.as_str());
        let Some(revision) = self.store.revision(tenant, function, number).await? else {
            return Ok(None);
        };
        let Some(active) = self.store.function(tenant, function).await? else { return Ok(None) };
        let addressed = ActiveFunction { revision, ..active };
        let mount = format!("/f/{function}@{number}");
        Ok(Some(Arc::new(self.catalog.entry_at(name, &addressed, mount))))
    }
}
