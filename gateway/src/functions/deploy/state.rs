//! State that all changes of functions share: the lock that orders them, and the step from
//! the store to the data plane.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use prometheus::{IntCounter, IntCounterVec};
use runtime_pool::Pool;
use store::{ActiveFunction, Published, Quotas, Store};
use tokio::sync::Mutex;

use crate::{
    config::QuotasSection,
    functions::{
        catalog::{Catalog, Entries},
        deploy::{change_rate::ChangeRate, error::DeployError},
        qualified_name::QualifiedName,
        quarantine::Quarantine,
        stores::Stores,
    },
};

pub(crate) struct DeployState {
    pub(super) store: Store,
    pub(super) pool: Arc<Pool>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) stores: Stores,
    pub(super) quarantine: Arc<Quarantine>,
    pub(super) artifact_bytes: u64,
    pub(super) quotas: ArcSwap<QuotasSection>,
    pub(super) changes: ChangeRate,
    /// Held from a change in the store until the catalog has the same change: two changes of one
    /// function could otherwise reach the catalog in the opposite order. Holds the time of the
    /// last change that found the database busy.
    pub(super) publishing: Mutex<Option<Instant>>,
    pub(super) refused: IntCounterVec,
    pub(super) removed_revisions: IntCounter,
}

/// A revision that calls now see.
pub(crate) struct Activated {
    pub(crate) active: ActiveFunction,
    /// The revision that the change has made, if that is another one.
    pub(crate) inactive_revision: Option<u32>,
    /// Older revisions that made room for it.
    pub(crate) removed_revisions: Vec<u32>,
}

impl From<ActiveFunction> for Activated {
    /// Nothing was added or removed.
    fn from(active: ActiveFunction) -> Self {
        Self { active, inactive_revision: None, removed_revisions: Vec::new() }
    }
}

impl DeployState {
    /// Runs one change at a time, each in a task of its own: a client that disconnects must not
    /// stop a change halfway between the store and the catalog.
    ///
    /// A change that finds the database busy takes seconds to find out. The changes that waited
    /// meanwhile fail at once instead of waiting for the database one after the other.
    pub(super) async fn serialized<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl Future<Output = Result<T, DeployError>> + Send + 'static,
    ) -> Result<T, DeployError> {
        let state = Arc::clone(self);
        let serialized = async move {
            let requested = Instant::now();
            let mut last_busy = state.publishing.lock().await;
            if last_busy.is_some_and(|busy| busy >= requested) {
                return Err(store::Error::Busy.into());
            }
            let outcome = change.await;
            if matches!(outcome, Err(DeployError::Store(store::Error::Busy))) {
                *last_busy = Some(Instant::now());
            }
            outcome
        };
        tokio::spawn(serialized).await.map_err(DeployError::Interrupted)?
    }

    /// Shows the data plane a revision that the store has made active.
    pub(super) async fn activate(&self, name: QualifiedName, published: Published) -> Activated {
        let Published { function, revision, active, channels, removed_revisions, .. } = published;
        let inactive_revision = (revision.number != active.number).then_some(revision.number);
        let active = ActiveFunction { function, revision: active };
        self.removed_revisions.inc_by(removed_revisions.len() as u64);
        let entries = self.catalog.entries(&name, &active, channels);
        // Resident before it is visible, so that the first call finds it in memory.
        self.pool.preload(entries.default.key, entries.default.spec()).await;
        self.show(name, entries).await;
        Activated { active, inactive_revision, removed_revisions }
    }

    /// Has calls see the entries of a function. The revision that they reached before is evicted, unless they
    /// still do.
    pub(super) async fn show(&self, name: QualifiedName, entries: Entries) {
        let reached = entries.keys();
        if let Some(before) = self.catalog.replace(name, entries)
            && !reached.contains(&before.key)
        {
            self.pool.evict(&before.key).await;
        }
    }

    /// The quotas that the store enforces.
    pub(super) fn store_quotas(&self) -> Quotas {
        let section = self.quotas.load();
        Quotas {
            functions: section.functions as u64,
            artifact_bytes: section.artifact_bytes,
            files: section.files as u64,
            revisions_per_function: section.revisions_per_function as u64,
            idempotency_keys: section.idempotency_keys as u64,
        }
    }
}
