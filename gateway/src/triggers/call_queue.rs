//! Takes calls in, and says what became of them.

use std::{sync::Arc, time::Duration};

use prometheus::Registry;
use store::{
    Cause, EnqueueLimits, EnqueueOutcome, Enqueued, Invocation, KeepInvocations, NewInvocation,
    Store, Tenant,
};
use tokio::{
    sync::{Notify, Semaphore},
    time,
};

use crate::{
    config::QueueSection,
    telemetry::{clock::now_ms, request_id::id_string},
    triggers::queue_metrics::QueueMetrics,
};

/// How often the metrics are brought up to date.
const SHOW: Duration = Duration::from_secs(1);
/// How often calls are removed that have ended and need not be kept.
const TRIM: Duration = Duration::from_secs(60);
/// Answers, and as many dead calls, that are kept of each function.
const KEPT_PER_LANE: u64 = 10_000;
/// Look-ups of calls at once: a caller that guesses ids must not keep the database busy.
const LOOKUPS: usize = 2;

/// The queue of calls. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct CallQueue {
    state: Arc<QueueState>,
}

#[derive(Debug)]
struct QueueState {
    store: Store,
    settings: QueueSection,
    metrics: QueueMetrics,
    /// Told when a call is enqueued.
    arrived: Notify,
    lookups: Semaphore,
}

impl CallQueue {
    pub(crate) fn new(
        store: &Store,
        settings: &QueueSection,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let metrics = QueueMetrics::register(registry)?;
        let (store, settings) = (store.clone(), settings.clone());
        let (arrived, lookups) = (Notify::new(), Semaphore::new(LOOKUPS));
        let state = QueueState { store, settings, metrics, arrived, lookups };
        Ok(Self { state: Arc::new(state) })
    }

    /// Enqueues a call. When this returns, it will run. `calls` is how many may wait in its lane.
    pub(crate) async fn enqueue(&self, new: NewInvocation, calls: u64) -> store::Result<Enqueued> {
        let first = self.enqueue_all(vec![new], calls).await?.into_iter().next();
        first.ok_or_else(|| store::Error::Inconsistent {
            reason: "a call was enqueued without an outcome".to_owned(),
        })
    }

    /// Enqueues calls of one cause, all or none. One outcome for each, in order.
    pub(super) async fn enqueue_all(
        &self,
        new: Vec<NewInvocation>,
        calls: u64,
    ) -> store::Result<Vec<Enqueued>> {
        let Some(cause) = new.first().map(|first| first.cause) else { return Ok(Vec::new()) };
        let enqueued = self.state.store.enqueue(new, self.limits(calls)).await?;
        let added = enqueued.iter().filter(|one| one.outcome == EnqueueOutcome::New).count();
        if added > 0 {
            self.added(cause, added as u64);
        }
        Ok(enqueued)
    }

    /// How much may wait, of which `calls` in one lane.
    pub(crate) fn limits(&self, calls: u64) -> EnqueueLimits {
        EnqueueLimits { lane_calls: calls, bytes: self.state.settings.bytes }
    }

    /// Counts calls that were enqueued beside this, and has the worker look at once.
    pub(super) fn added(&self, cause: Cause, calls: u64) {
        (0..calls).for_each(|_| self.state.metrics.enqueued(cause));
        self.wake();
    }

    /// Has the worker look at once.
    pub(crate) fn wake(&self) {
        self.state.arrived.notify_one();
    }

    /// Waits until a call is enqueued.
    pub(super) async fn arrived(&self) {
        self.state.arrived.notified().await;
    }

    pub(crate) fn settings(&self) -> &QueueSection {
        &self.state.settings
    }

    pub(super) fn metrics(&self) -> &QueueMetrics {
        &self.state.metrics
    }

    pub(super) fn store(&self) -> &Store {
        &self.state.store
    }

    /// A call.
    pub(crate) async fn get(&self, tenant: &Tenant, id: &str) -> store::Result<Option<Invocation>> {
        if !is_id(id) {
            return Ok(None);
        }
        let _turn = self.state.lookups.acquire().await;
        self.state.store.invocation(tenant, id).await
    }

    /// Cancels a call that has not begun. Returns whether it did.
    pub(crate) async fn cancel(&self, tenant: &Tenant, id: &str) -> store::Result<bool> {
        if !is_id(id) {
            return Ok(false);
        }
        let _turn = self.state.lookups.acquire().await;
        self.state.store.cancel_invocation(tenant, id, now_ms()).await
    }

    /// Shows metrics, and removes what need not be kept. Ends when it is dropped, at any point.
    pub(crate) async fn upkeep(self) {
        let (mut show, mut trim) = (time::interval(SHOW), time::interval(TRIM));
        loop {
            tokio::select! {
                _ = show.tick() => match self.state.store.lanes().await {
                    Ok(lanes) => self.state.metrics.show(&lanes, now_ms()),
                    Err(error) => report(&error, "looking at the queue of calls"),
                },
                _ = trim.tick() => self.trim().await,
            }
        }
    }

    async fn trim(&self) {
        let QueueSection { results_ms, dead_ms, kept_bytes, .. } = self.state.settings;
        let before = |age| now_ms().saturating_sub(i64::try_from(age).unwrap_or(i64::MAX));
        let keep = KeepInvocations {
            results_before_ms: before(results_ms),
            dead_before_ms: before(dead_ms),
            per_lane: KEPT_PER_LANE,
            bytes: kept_bytes,
        };
        match self.state.store.trim_invocations(keep).await {
            Ok(removed) => self.state.metrics.removed(removed),
            Err(error) => report(&error, "removing calls that have ended"),
        }
    }
}

/// Logs why something failed that will be tried again. A disk that is slow for a while is no error.
pub(super) fn report(error: &store::Error, doing: &'static str) {
    match error {
        store::Error::Busy => tracing::warn!(%error, doing, "the queue of calls waits"),
        _ => tracing::error!(%error, doing, "the queue of calls failed"),
    }
}

/// The longest id: a hash as text.
const ID_BYTES: usize = 64;

/// Whether a text can be the id of a call.
fn is_id(text: &str) -> bool {
    (32..=ID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A random number, 0 if the system has none.
pub(super) fn random_number() -> u64 {
    getrandom::u64().unwrap_or_default()
}

/// The id of another call, which cannot be guessed.
pub(crate) fn random_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(id_string(u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_long_and_hexadecimal() {
        let id = random_id().unwrap();
        assert!(is_id(&id), "{id}");
        assert_ne!(random_id().unwrap(), id);
        for other in ["", "abc", &id[1..], &id.to_uppercase().replace(['0', '1'], "A"), "../x"] {
            assert!(!is_id(other), "{other}");
        }
    }
}
