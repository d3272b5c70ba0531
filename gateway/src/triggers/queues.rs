//! Named queues: messages that wait, on the disk, until a function has taken them.
//!
//! The store has each queue as its owner wrote it, and the messages as calls in a lane of the queue's. In
//! memory are the queues alone. `publish` takes messages in, and to subscribe a function is to `put` a queue
//! that names it: neither knows HTTP, so that guests publish by the same door as the API. `consume` delivers
//! messages, `batch` makes a request of several.

mod batch;
pub(crate) mod consume;
pub(crate) mod message;
mod metrics;
mod spec;
pub(crate) mod table;
pub(crate) mod turn;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use gateway_api::{ChangeQueue, QueueSpec};
use prometheus::Registry;
use store::{
    CallState, Enqueued, InvocationFilter, Lane, LaneTotals, MessagePage, MovedMessages,
    PutDocument, Store, Tenant, WaitingMessage,
};
use tokio::{sync::Mutex, time};

use crate::{
    config::QueueSection,
    functions::catalog::{Catalog, CatalogEntry, target::NamedTargets},
    telemetry::clock::now_ms,
    triggers::{
        call_queue::{CallQueue, report},
        queues::{
            message::NewMessage,
            metrics::MessageMetrics,
            table::{NamedQueue, QueueTable},
        },
    },
};

/// How often the metrics are brought up to date.
const SHOW: Duration = Duration::from_secs(1);
/// How often messages are given up that nothing delivers, and dead ones removed.
const EXPIRE: Duration = Duration::from_secs(10);
/// Why a message was given up that nothing has delivered.
pub(super) const TOO_OLD: &str = "it has waited for longer than the queue's `max_age_s` allows";

/// Why a queue was not changed, or took no messages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    BadMessage(String),
    #[error("the body of a message is larger than {max} bytes")]
    TooLarge { max: u64 },
    /// An earlier message with this name said something else.
    #[error(
        "messages[{index}].idempotency_key: an earlier message has it, and said something else"
    )]
    OtherMessage { index: usize },
    #[error("there is no such queue")]
    NotFound,
    #[error("it has {messages} messages")]
    NotEmpty { messages: u64 },
    #[error("the system has no random bytes")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A queue with what is in it.
pub(crate) type QueueWithTotals = (Arc<NamedQueue>, Option<LaneTotals>);

/// The queues of all tenants. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Queues {
    state: Arc<NamedQueues>,
}

#[derive(Debug)]
struct NamedQueues {
    store: Store,
    catalog: Arc<Catalog>,
    calls: CallQueue,
    metrics: MessageMetrics,
    /// Held while a queue changes.
    changes: Arc<Mutex<()>>,
    table: ArcSwap<QueueTable>,
}

impl Queues {
    /// Reads all queues.
    pub(crate) async fn load(
        (store, catalog): (&Store, &Arc<Catalog>),
        calls: &CallQueue,
        (registry, labels_max): (&Registry, usize),
    ) -> anyhow::Result<Self> {
        let metrics = MessageMetrics::register(registry, labels_max)?;
        let mut table = QueueTable::default();
        let mut known = Vec::new();
        for record in store.all_queues().await? {
            known.push(record.id);
            let (name, label) = (record.name.clone(), metrics.label(&record.tenant, &record.name));
            match NamedQueue::new(record, label) {
                Ok(queue) => table.set(Arc::new(queue)),
                // It stays in the store, for a version that knows it.
                Err(why) => tracing::error!(name, why, "skipped a queue"),
            }
        }
        // What is left of queues whose deletion was interrupted.
        for lane in store.queue_lanes().await? {
            if let Lane::Queue(id) = lane.lane
                && !known.contains(&id)
            {
                store.forget_lane(lane.lane).await?;
            }
        }
        metrics.count.set(i64::try_from(table.len()).unwrap_or(i64::MAX));
        let (changes, table) = (Arc::default(), ArcSwap::from_pointee(table));
        let (store, catalog, calls) = (store.clone(), Arc::clone(catalog), calls.clone());
        let state = NamedQueues { store, catalog, calls, metrics, changes, table };
        Ok(Self { state: Arc::new(state) })
    }

    /// A queue by its id.
    pub(super) fn by_id(&self, id: i64) -> Option<Arc<NamedQueue>> {
        self.state.table.load().by_id(id).cloned()
    }

    fn by_name(&self, tenant: &Tenant, name: &str) -> Result<Arc<NamedQueue>, QueueError> {
        self.state.table.load().by_name(tenant, name).cloned().ok_or(QueueError::NotFound)
    }

    /// The function that gets the messages of a queue. An error says what is not there.
    pub(super) fn target(
        &self,
        tenant: &Tenant,
        spec: &QueueSpec,
    ) -> Result<Arc<CatalogEntry>, String> {
        let function = spec.function.as_deref().ok_or("the queue has no function")?;
        self.state.catalog.target(tenant, function, spec.channel.as_deref())
    }

    /// The queues of a tenant after a name, at most `limit`, with what is in them.
    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        after: &str,
        limit: usize,
    ) -> store::Result<Vec<QueueWithTotals>> {
        let page: Vec<_> =
            self.state.table.load().after(tenant, after).take(limit).cloned().collect();
        let mut queues = Vec::with_capacity(page.len());
        for queue in page {
            queues.push(self.with_totals(queue).await?);
        }
        Ok(queues)
    }

    /// A queue with what is in it.
    pub(crate) async fn get(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> Result<QueueWithTotals, QueueError> {
        let queue = self.by_name(tenant, name)?;
        Ok(self.with_totals(queue).await?)
    }

    async fn with_totals(&self, queue: Arc<NamedQueue>) -> store::Result<QueueWithTotals> {
        let totals = self.state.store.lane(Lane::Queue(queue.id)).await?;
        Ok((queue, totals))
    }

    /// Sets a queue, or replaces all of it, and so subscribes its function. Refuses a new one if there are
    /// `max`. Returns whether it is new.
    pub(crate) async fn put(
        &self,
        tenant: Tenant,
        name: &str,
        spec: QueueSpec,
        max: u64,
    ) -> Result<(QueueWithTotals, bool), QueueError> {
        let (this, name) = (self.clone(), name.to_owned());
        // In a task of its own: deliveries must see it even if the client disconnects.
        let put = tokio::spawn(async move {
            let turn = this.take_turn().await;
            let puts = BTreeMap::from([(name, spec)]);
            let targets = NamedTargets::now(&this.state.catalog, &tenant);
            if let Some((_, why)) = turn.check(&targets, &puts, &BTreeSet::new()).pop() {
                return Err(QueueError::Refused(why));
            }
            let (name, spec) = puts.into_iter().next().expect("it has one");
            this.set(tenant, name, &spec, max).await
        });
        let (queue, is_new) = put.await.expect("the task does not panic and is not aborted")?;
        Ok((self.with_totals(queue).await?, is_new))
    }

    /// Pauses or resumes a queue.
    pub(crate) async fn change(
        &self,
        tenant: Tenant,
        name: &str,
        change: ChangeQueue,
    ) -> Result<QueueWithTotals, QueueError> {
        let (this, name) = (self.clone(), name.to_owned());
        let put = tokio::spawn(async move {
            let _turn = this.take_turn().await;
            let queue = this.by_name(&tenant, &name)?;
            let spec = QueueSpec { paused: change.paused, ..queue.spec.clone() };
            this.set(tenant, name, &spec, u64::MAX).await
        });
        let (queue, _) = put.await.expect("the task does not panic and is not aborted")?;
        Ok(self.with_totals(queue).await?)
    }

    async fn set(
        &self,
        tenant: Tenant,
        name: String,
        spec: &QueueSpec,
        max: u64,
    ) -> Result<(Arc<NamedQueue>, bool), QueueError> {
        let state = &self.state;
        let document = serde_json::to_string(spec).expect("a queue has a JSON form");
        let put = PutDocument { tenant, name, document, now_ms: now_ms() };
        let (record, is_new) = state.store.put_queue(put, max).await?;
        let queue = self.install(record).map_err(QueueError::Refused)?;
        Ok((queue, is_new))
    }

    fn swap(&self, change: impl FnOnce(&mut QueueTable)) {
        let mut table = QueueTable::clone(&self.state.table.load());
        change(&mut table);
        self.state.metrics.count.set(i64::try_from(table.len()).unwrap_or(i64::MAX));
        self.state.table.store(Arc::new(table));
    }

    /// Deletes a queue with what is in it. One that has messages which are not done only if it must.
    pub(crate) async fn delete(
        &self,
        tenant: Tenant,
        name: &str,
        must: bool,
    ) -> Result<(), QueueError> {
        let (this, name) = (self.clone(), name.to_owned());
        let delete = tokio::spawn(async move {
            let state = &this.state;
            let _turn = this.take_turn().await;
            let queue = this.by_name(&tenant, &name)?;
            let messages = this.not_done(&queue).await?;
            if messages > 0 && !must {
                return Err(QueueError::NotEmpty { messages });
            }
            state.store.delete_queue(queue.id).await?;
            this.forget(&queue).await?;
            Ok(())
        });
        delete.await.expect("the task does not panic and is not aborted")
    }

    /// Publishes messages, all or none. When this returns, they survive a power cut. One outcome for each,
    /// in order.
    pub(crate) async fn publish(
        &self,
        tenant: &Tenant,
        name: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Enqueued>, QueueError> {
        let queue = self.by_name(tenant, name)?;
        message::check(&queue, &messages).map_err(QueueError::BadMessage)?;
        let max = self.settings().body_bytes;
        if messages.iter().any(|message| message.body.len() as u64 > max) {
            return Err(QueueError::TooLarge { max });
        }
        let now = now_ms();
        let new = messages.into_iter().map(|message| message::stored(&queue, message, now));
        let new = new.collect::<Result<Vec<_>, _>>()?;
        let enqueued = self.state.calls.enqueue_all(new, self.settings().messages).await?;
        if let Some(index) = mismatch(&enqueued) {
            return Err(QueueError::OtherMessage { index });
        }
        let new = enqueued.iter().filter(|one| one.outcome == store::EnqueueOutcome::New).count();
        self.state.metrics.published(&queue, new as u64);
        Ok(enqueued)
    }

    /// Messages of a queue, the oldest first, without taking them.
    pub(crate) async fn messages(
        &self,
        tenant: &Tenant,
        name: &str,
        page: MessagePage,
    ) -> Result<(Arc<NamedQueue>, Vec<WaitingMessage>), QueueError> {
        let queue = self.by_name(tenant, name)?;
        let messages = self.state.store.messages(queue.id, page).await?;
        Ok((queue, messages))
    }

    /// Removes messages in a state. One that runs is never removed. Returns how many there were.
    pub(crate) async fn purge(
        &self,
        tenant: &Tenant,
        name: &str,
        state: CallState,
    ) -> Result<u64, QueueError> {
        let filter = self.filter(tenant, name, Some(state))?;
        Ok(self.state.store.purge_invocations(tenant, &filter, None).await?)
    }

    /// Makes dead messages due again, under their ids. Returns how many there were.
    pub(crate) async fn redrive(&self, tenant: &Tenant, name: &str) -> Result<u64, QueueError> {
        let filter = self.filter(tenant, name, None)?;
        let count = self.state.store.redrive_invocations(tenant, &filter, None, now_ms()).await?;
        self.state.calls.wake();
        Ok(count)
    }

    fn filter(
        &self,
        tenant: &Tenant,
        name: &str,
        state: Option<CallState>,
    ) -> Result<InvocationFilter, QueueError> {
        let lane = Lane::Queue(self.by_name(tenant, name)?.id);
        Ok(InvocationFilter { function: None, state, lane: Some(lane) })
    }

    /// Shows metrics, gives up what is too old, and removes dead messages that need not be kept. Ends when
    /// it is dropped, at any point.
    pub(crate) async fn upkeep(self) {
        let (mut show, mut expire) = (time::interval(SHOW), time::interval(EXPIRE));
        loop {
            tokio::select! {
                _ = show.tick() => self.show().await,
                _ = expire.tick() => self.expire().await,
            }
        }
    }

    async fn show(&self) {
        let table = self.state.table.load_full();
        if table.len() == 0 {
            return;
        }
        let lanes = match self.state.store.queue_lanes().await {
            Ok(lanes) => lanes,
            Err(error) => return report(&error, "looking at the queues of messages"),
        };
        let totals: HashMap<Lane, &LaneTotals> =
            lanes.iter().map(|totals| (totals.lane, totals)).collect();
        let queues: Vec<_> = table
            .all()
            .map(|queue| (Arc::clone(queue), totals.get(&Lane::Queue(queue.id)).copied()))
            .collect();
        self.state.metrics.show(&queues, now_ms());
    }

    async fn expire(&self) {
        let table = self.state.table.load_full();
        for queue in table.all() {
            if let Err(error) = self.expire_one(queue).await {
                report(&error, "giving up messages that are too old");
                return;
            }
        }
    }

    async fn expire_one(&self, queue: &NamedQueue) -> store::Result<()> {
        let (state, now) = (&self.state, now_ms());
        let mut expired = 0;
        if let Some(other) = self.dead_letter_queue(queue) {
            let expires_ms = now.saturating_add(other.max_age_ms());
            let source = queue.name.clone();
            let moved = Some(MovedMessages { queue: other.id, expires_ms, source });
            expired += state.store.expire_messages(queue.id, moved, TOO_OLD, now).await?;
        }
        // What was moved once stays where it is.
        expired += state.store.expire_messages(queue.id, None, TOO_OLD, now).await?;
        if expired > 0 {
            state.metrics.expired(queue, expired);
        }
        let retention = i64::from(queue.spec.dead_retention_s) * 1_000;
        state.store.trim_dead_messages(queue.id, now.saturating_sub(retention)).await?;
        Ok(())
    }

    /// The queue that gets the dead messages of a queue. One that is gone gets none.
    pub(super) fn dead_letter_queue(&self, queue: &NamedQueue) -> Option<Arc<NamedQueue>> {
        let name = queue.spec.dead_letter_queue.as_deref()?;
        self.state.table.load().by_name(&queue.tenant, name).cloned()
    }

    fn metrics(&self) -> &MessageMetrics {
        &self.state.metrics
    }

    fn settings(&self) -> &QueueSection {
        self.state.calls.settings()
    }
}

/// The first message whose name belongs to another one.
fn mismatch(enqueued: &[Enqueued]) -> Option<usize> {
    enqueued.iter().position(|one| one.outcome == store::EnqueueOutcome::Mismatch)
}
