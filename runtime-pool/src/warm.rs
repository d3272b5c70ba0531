//! Which instances are kept warm: made in advance, or kept after a call, and waiting for the next?
//!
//! Making an instance takes microseconds for most guests. For those a new instance, whose memory was
//! in use a moment ago, is faster than a warm one, so none are kept (docs/cold-start.md has the
//! measurements). Where it takes long, a function keeps as many warm as were recently in use at once,
//! up to the number of processors. That target rises at once and falls slowly, to zero without
//! calls. All warm instances of the node share one budget, and are dropped before a call is refused
//! an instance.

pub(crate) mod budget;
pub(crate) mod refill;
pub(crate) mod reuse;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    thread,
    time::{Duration, Instant},
};

use prometheus::Counter;
use tokio::task;

use crate::{
    InvokeError, Isolation,
    executor::template::InstanceTemplate,
    host::instance::Instance,
    metrics::{
        PoolMetrics,
        start::{Phase, Start},
    },
    warm::{budget::WarmRoom, refill::Refilling, reuse::Reusable},
};

/// Instances that must have been made before the time that this takes counts as known.
const SAMPLES: u32 = 3;

/// How many instances may be warm on the node.
#[derive(Clone, Debug)]
pub struct WarmConfig {
    /// Instances of all functions together.
    pub instances: usize,
    /// Linear memory of all of them together, in bytes.
    pub bytes: u64,
    /// Instances of a function are kept warm if making one takes at least this long.
    pub worthwhile: Duration,
}

/// The warm instances of the node: how many there may be, and which functions have some.
pub(crate) struct WarmBudget {
    worthwhile: Duration,
    room: WarmRoom,
    /// The sets that have warm instances, or should.
    sets: Mutex<Vec<Weak<WarmSet>>>,
    /// Invocations that can make progress at the same time.
    processors: usize,
    metrics: PoolMetrics,
}

/// The permit for one warm instance in the budget, released on drop.
pub(crate) struct WarmPermit {
    budget: Arc<WarmBudget>,
    bytes: u64,
}

impl WarmBudget {
    pub(crate) fn new(config: &WarmConfig, metrics: PoolMetrics) -> Self {
        Self {
            worthwhile: config.worthwhile,
            room: WarmRoom::new(config.instances, config.bytes),
            sets: Mutex::default(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            metrics,
        }
    }

    /// A permit for an instance of this size, if the budget has one.
    fn permit(self: &Arc<Self>, bytes: u64) -> Option<WarmPermit> {
        self.room.take(bytes).then(|| {
            self.metrics.warm_instances.inc();
            WarmPermit { budget: Arc::clone(self), bytes }
        })
    }

    /// Adjusts the number of warm instances to the demand since the last tick.
    pub(crate) fn tick(&self) {
        let now = Instant::now();
        // Not under the lock: dropping instances takes time. A set that is added meanwhile stays.
        let sets = std::mem::take(&mut *self.lock());
        let kept = sets.into_iter().filter(|set| set.upgrade().is_some_and(|set| set.adjust(now)));
        let kept: Vec<_> = kept.collect();
        self.lock().extend(kept);
    }

    /// Drops all warm instances, to make room for one that a call needs. Returns whether there were
    /// any.
    pub(crate) fn release_all(&self) -> bool {
        let sets: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        sets.iter().filter(|set| set.clear()).count() > 0
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<WarmSet>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WarmPermit {
    fn drop(&mut self) {
        self.budget.metrics.warm_instances.dec();
        self.budget.room.give_back(self.bytes);
    }
}

/// The warm instances of one function.
pub(crate) struct WarmSet {
    /// The last one in is the first one out: its memory may still be in the processor's caches.
    /// Declared before the template, which holds their code, so that they are dropped first.
    instances: Mutex<Vec<(Instance, WarmPermit)>>,
    template: Arc<InstanceTemplate>,
    /// CPU time of the function's guests.
    cpu_seconds: Counter,
    budget: Arc<WarmBudget>,
    /// Their number, readable without the lock.
    count: AtomicUsize,
    /// How many should be warm.
    target: AtomicUsize,
    /// How many should be warm even without calls.
    min_warm: AtomicUsize,
    /// The most that were in use at once since the last adjustment.
    peak: AtomicUsize,
    refilling: Refilling,
    watched: AtomicBool,
    /// Memory of the instance that was kept last.
    bytes: AtomicU64,
    /// The shortest time in which an instance was made, and how many were.
    fastest_ns: AtomicU64,
    made: AtomicU32,
}

impl WarmSet {
    pub(crate) fn new(
        template: Arc<InstanceTemplate>,
        budget: Arc<WarmBudget>,
        cpu_seconds: Counter,
    ) -> Self {
        Self {
            instances: Mutex::default(),
            template,
            cpu_seconds,
            budget,
            count: AtomicUsize::new(0),
            target: AtomicUsize::new(0),
            min_warm: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            refilling: Refilling::new(),
            watched: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            fastest_ns: AtomicU64::new(u64::MAX),
            made: AtomicU32::new(0),
        }
    }

    /// Adjusts the target to an invocation that started like this. `running` counts the invocations
    /// of the function.
    pub(crate) fn note_demand(self: &Arc<Self>, start: &Start, running: impl FnOnce() -> usize) {
        if let Some(took) = start.phases.get(Phase::Instantiate) {
            self.note_instantiation(took);
        }
        let max = self.template.spec().max_warm;
        if max == 0 || !self.is_worthwhile() {
            return;
        }
        // At least this one, whose slot may already be free again.
        let running = running().max(1);
        // With all processors busy there is no time to make instances in advance.
        if running <= self.budget.processors {
            self.peak.fetch_max(running, Relaxed);
            self.target.fetch_max(running.min(max), Relaxed);
            self.refill();
        }
    }

    /// Keeps at least this many instances warm, even without calls.
    pub(crate) fn keep_warm(self: &Arc<Self>, min_warm: usize) {
        self.min_warm.store(min_warm, Relaxed);
        self.target.fetch_max(min_warm, Relaxed);
        self.refill();
    }

    /// Takes an instance whose guest has ended without a failure. `None`, and the instance is gone,
    /// unless the owner of the function has chosen isolation `reuse` and the guest has let go of all
    /// that belongs to its call: through an open stream it could reach a former caller.
    pub(crate) fn reusable(&self, mut instance: Instance) -> Option<Reusable> {
        let Isolation::Reuse { max_uses, .. } = self.template.spec().isolation else { return None };
        instance.uses += 1;
        let again = instance.uses < max_uses && !instance.holds_resources();
        again.then(|| Reusable(Box::new(instance)))
    }

    /// Keeps an instance for the next call. Its response must have ended, and well.
    pub(crate) fn keep(self: &Arc<Self>, Reusable(mut instance): Reusable) {
        instance.last_used = Instant::now();
        instance.end_invocation(Arc::clone(self.template.policy()));
        if self.put(*instance) {
            self.watch();
        }
    }

    fn note_instantiation(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // After a few calls of a function that is fast to make, nothing is written here.
        if took < self.fastest_ns.load(Relaxed) {
            self.fastest_ns.fetch_min(took, Relaxed);
        }
        if self.made.load(Relaxed) < SAMPLES {
            self.made.fetch_add(1, Relaxed);
        }
    }

    /// Whether making an instance takes so long that some should be kept warm. The fastest of several
    /// counts, because a busy machine makes single ones look slow.
    fn is_worthwhile(&self) -> bool {
        u128::from(self.fastest_ns.load(Relaxed)) >= self.budget.worthwhile.as_nanos()
            && self.made.load(Relaxed) >= SAMPLES
    }

    pub(crate) fn budget(&self) -> &Arc<WarmBudget> {
        &self.budget
    }

    /// The number of warm instances.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Takes a warm instance, if there is one.
    pub(crate) fn take(&self) -> Option<Instance> {
        // Most functions have none, and their calls need not take the lock.
        if self.count() == 0 {
            return None;
        }
        let (instance, _permit) = {
            let mut instances = self.lock();
            let last = instances.pop();
            self.count.store(instances.len(), Relaxed);
            last?
        };
        Some(instance)
    }

    /// Keeps an instance, if the budget has a permit for it.
    fn put(&self, mut instance: Instance) -> bool {
        let bytes = instance.memory_bytes() as u64;
        self.bytes.store(bytes, Relaxed);
        let Some(permit) = self.budget.permit(bytes) else { return false };
        let mut instances = self.lock();
        instances.push((instance, permit));
        self.count.store(instances.len(), Relaxed);
        true
    }

    /// Whether there are fewer than the target, and the budget may have a permit for one more.
    fn is_short(&self) -> bool {
        let missing = self.count() < self.target.load(Relaxed);
        missing && self.budget.permit(self.bytes.load(Relaxed)).is_some()
    }

    /// Makes the missing instances in a task of its own.
    fn refill(self: &Arc<Self>) {
        if !self.is_short() {
            return;
        }
        self.watch();
        // One at a time: this must not take all processors.
        if !self.refilling.begin() {
            return;
        }
        let set = Arc::clone(self);
        // The task has no owner: it ends when nothing is missing, and its panic affects no call.
        tokio::spawn(async move {
            let set = &set;
            let add = async || {
                let added = set.add().await;
                // Invocations come first.
                task::yield_now().await;
                added
            };
            set.refilling.until_enough(|| set.is_short(), add).await;
        });
    }

    /// Makes a warm instance. Returns whether that succeeded.
    async fn add(&self) -> bool {
        let (made, cpu) = self.template.instantiate_ahead().await;
        self.cpu_seconds.inc_by(cpu.as_secs_f64());
        match made {
            Ok(instance) => self.put(instance),
            // The node is full, and calls that need an instance come first.
            Err(InvokeError::Instances | InvokeError::NodeMemory) => false,
            Err(error) => {
                self.stop_refilling();
                let log = self.template.log();
                log.system(0, &format!("making a warm instance: {error}"));
                false
            }
        }
    }

    /// Registers the set with the budget, which then adjusts it at each tick.
    fn watch(self: &Arc<Self>) {
        if !self.watched.load(Relaxed) && !self.watched.swap(true, AcqRel) {
            self.budget.lock().push(Arc::downgrade(self));
        }
    }

    fn stop_refilling(&self) {
        self.min_warm.store(0, Relaxed);
        self.target.store(0, Relaxed);
    }

    /// Drops all warm instances and makes no more: the function leaves memory.
    pub(crate) fn close(&self) {
        self.stop_refilling();
        self.clear();
    }

    /// Adjusts to the demand since the last time. Returns whether any instances are warm, or should
    /// be.
    fn adjust(self: &Arc<Self>, now: Instant) -> bool {
        let any = self.shrink(now);
        self.refill();
        any
    }

    /// Lowers the target towards what was recently in use. Drops the surplus, and the instances whose
    /// idle time is over.
    fn shrink(&self, now: Instant) -> bool {
        let idle = match self.template.spec().isolation {
            Isolation::Request => None,
            Isolation::Reuse { idle, .. } => Some(idle),
        };
        let peak = self.peak.swap(0, Relaxed);
        let target = self.target.load(Acquire);
        let min_warm = self.min_warm.load(Relaxed);
        // A quarter less at each adjustment.
        let lower = (target * 3 / 4).max(peak.min(target)).max(min_warm);
        self.target.store(lower, Relaxed);
        let surplus = {
            let mut instances = self.lock();
            let keep = idle.map_or(lower, |_| instances.len().max(lower));
            // Those at the front have been idle for longest.
            let mut leave = instances.len().saturating_sub(keep);
            if let Some(idle) = idle {
                let stale =
                    |(instance, _): &(Instance, WarmPermit)| now - instance.last_used >= idle;
                let most = instances.len().saturating_sub(min_warm);
                leave = leave.max(instances.iter().take_while(|i| stale(i)).count().min(most));
            }
            let surplus: Vec<_> = instances.drain(..leave).collect();
            self.count.store(instances.len(), Relaxed);
            surplus
        };
        drop(surplus);
        let watched = self.count() > 0 || lower > 0;
        self.watched.store(watched, Release);
        watched
    }

    /// Drops all. Returns whether there were any.
    fn clear(&self) -> bool {
        let all = {
            let mut instances = self.lock();
            self.count.store(0, Relaxed);
            std::mem::take(&mut *instances)
        };
        !all.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instance, WarmPermit)>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
