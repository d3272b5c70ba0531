//! The right to change queues: from their check until deliveries see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::QueueSpec;
use store::{DocumentRecord, Lane, Tenant};
use tokio::sync::OwnedMutexGuard;

use crate::{
    functions::catalog::target::NamedTargets,
    triggers::queues::{NamedQueue, Queues, spec},
};

/// The right to change queues.
pub(crate) struct QueuesTurn {
    queues: Queues,
    _held: OwnedMutexGuard<()>,
}

impl Queues {
    /// The right to change queues. Others wait for it.
    pub(crate) async fn take_turn(&self) -> QueuesTurn {
        let held = Arc::clone(&self.state.changes).lock_owned().await;
        QueuesTurn { queues: self.clone(), _held: held }
    }

    /// Has deliveries see a queue that was stored. An error says what this version does not know of it.
    pub(super) fn install(&self, record: DocumentRecord) -> Result<Arc<NamedQueue>, String> {
        let state = &self.state;
        let label = state.metrics.label(&record.tenant, &record.name);
        let queue = Arc::new(NamedQueue::new(record, label)?);
        self.swap(|table| table.set(Arc::clone(&queue)));
        // What has waited may be delivered.
        state.calls.wake();
        Ok(queue)
    }

    /// The messages of a queue that were not delivered.
    pub(super) async fn not_done(&self, queue: &NamedQueue) -> store::Result<u64> {
        let totals = self.state.store.lane(Lane::Queue(queue.id)).await?;
        Ok(totals.map_or(0, |lane| lane.due + lane.running + lane.dead))
    }

    /// Forgets a queue whose row was deleted, with its messages.
    pub(super) async fn forget(&self, queue: &NamedQueue) -> store::Result<()> {
        self.swap(|table| table.remove(queue));
        self.state.metrics.forget(queue);
        // If this is interrupted, the next start does it.
        self.state.store.forget_lane(Lane::Queue(queue.id)).await?;
        Ok(())
    }
}

impl QueuesTurn {
    /// Checks queues that are to be set, while those of `deleted` go. Returns what is wrong with each.
    pub(crate) fn check(
        &self,
        targets: &NamedTargets<'_>,
        puts: &BTreeMap<String, QueueSpec>,
        deleted: &BTreeSet<String>,
    ) -> Vec<(String, String)> {
        let will_be = |name: &str| {
            puts.contains_key(name)
                || !deleted.contains(name) && self.queues.by_name(targets.tenant(), name).is_ok()
        };
        let wrong = |(name, spec): (&String, &QueueSpec)| {
            spec::check(name, spec)?;
            // It may go later: the messages then wait.
            if let Some(function) = &spec.function {
                targets.check(function, spec.channel.as_deref())?;
            }
            match &spec.dead_letter_queue {
                Some(other) if !will_be(other) => {
                    Err(format!("dead_letter_queue: there is no queue {other:?}"))
                }
                _ => Ok(()),
            }
        };
        let named = |put: (&String, &QueueSpec)| Some((put.0.clone(), wrong(put).err()?));
        puts.iter().filter_map(named).collect()
    }

    /// Why a queue should not be deleted, if there is a reason.
    pub(crate) async fn in_use(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> store::Result<Option<String>> {
        let Ok(queue) = self.queues.by_name(tenant, name) else { return Ok(None) };
        let messages = self.queues.not_done(&queue).await?;
        Ok((messages > 0).then(|| {
            format!("the queue {name:?} has {messages} messages that are not done; purge it first")
        }))
    }

    /// Has deliveries see queues that were stored.
    pub(crate) fn show(&self, stored: Vec<DocumentRecord>) {
        for record in stored {
            let name = record.name.clone();
            // It was checked before it was stored.
            if let Err(why) = self.queues.install(record) {
                tracing::error!(name, why, "skipped a queue");
            }
        }
    }

    /// Forgets queues whose rows were deleted, with their messages.
    pub(crate) async fn forget(&self, tenant: &Tenant, deleted: &BTreeSet<String>) {
        for name in deleted {
            let Ok(queue) = self.queues.by_name(tenant, name) else { continue };
            if let Err(error) = self.queues.forget(&queue).await {
                // The next start removes its messages.
                tracing::error!(name, %error, "forgetting the messages of a queue");
            }
        }
    }
}
