//! Instances that were made beforehand and wait for a call.
//!
//! Making an instance takes microseconds for most guests, and then the one whose memory was used
//! last is quicker than one that has waited: nothing waits for those (docs/cold-start.md has the
//! measurements). Where making one takes long, as many wait as were lately in use at once, up to
//! the number of processors: it rises at once and falls slowly, to none when nobody calls. All
//! that wait on the node share one budget, and leave before anybody is refused an instance.

pub(crate) mod budget;
pub(crate) mod refill;

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
    warm::{budget::WarmRoom, refill::Refilling},
};

/// How often an instance is made before it is known how long that takes.
const MAKINGS: u32 = 3;

/// What may wait on the node.
#[derive(Clone, Debug)]
pub struct WarmConfig {
    /// Instances of all functions together.
    pub instances: usize,
    /// Linear memory of all of them together, in bytes.
    pub bytes: u64,
    /// Making an instance takes at least this long where any shall wait unasked.
    pub worthwhile: Duration,
}

/// What waits on the node.
pub(crate) struct WarmBudget {
    worthwhile: Duration,
    room: WarmRoom,
    /// The sets that have warm instances, or should.
    sets: Mutex<Vec<Weak<WarmSet>>>,
    /// Invocations that can make progress at the same time.
    processors: usize,
    metrics: PoolMetrics,
}

/// A place in the budget; given up when dropped.
pub(crate) struct Place {
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

    /// A place for an instance of so many bytes, if there is one.
    fn place(self: &Arc<Self>, bytes: u64) -> Option<Place> {
        self.room.take(bytes).then(|| {
            self.metrics.warm_instances.inc();
            Place { budget: Arc::clone(self), bytes }
        })
    }

    /// Adjusts to what was asked for since the last time.
    pub(crate) fn tick(&self) {
        let now = Instant::now();
        // Not under the lock: dropping instances takes time.
        let sets = std::mem::take(&mut *self.lock());
        let kept = sets.into_iter().filter(|set| set.upgrade().is_some_and(|set| set.adjust(now)));
        let kept: Vec<_> = kept.collect();
        self.lock().extend(kept);
    }

    /// Lets go of all that waits, because somebody needs an instance now. Says whether it helped.
    pub(crate) fn release(&self) -> bool {
        let sets: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        sets.iter().filter(|set| set.clear()).count() > 0
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<WarmSet>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.budget.metrics.warm_instances.dec();
        self.budget.room.give_back(self.bytes);
    }
}

/// The warm instances of one function.
pub(crate) struct WarmSet {
    /// The one that came last is called first: its memory is still in the processor's caches.
    /// Before the template, so that they are dropped while it holds their code.
    instances: Mutex<Vec<(Instance, Place)>>,
    template: Arc<InstanceTemplate>,
    /// CPU time of the function's guests.
    cpu_seconds: Counter,
    budget: Arc<WarmBudget>,
    /// Their number, for those who only want to look.
    count: AtomicUsize,
    /// How many shall wait.
    wanted: AtomicUsize,
    /// How many shall wait even if nobody calls.
    floor: AtomicUsize,
    /// The most that were in use at once since the last adjustment.
    peak: AtomicUsize,
    making: Refilling,
    watched: AtomicBool,
    /// Memory that the last one had.
    bytes: AtomicU64,
    /// The quickest that one was made, in nanoseconds, and how often one was.
    quickest: AtomicU64,
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
            wanted: AtomicUsize::new(0),
            floor: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            making: Refilling::new(),
            watched: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            quickest: AtomicU64::new(u64::MAX),
            made: AtomicU32::new(0),
        }
    }

    /// Adjusts to an invocation that started like this while so many were running.
    pub(crate) fn note_demand(self: &Arc<Self>, start: &Start, running: impl FnOnce() -> usize) {
        if let Some(took) = start.phases.get(Phase::Instantiate) {
            self.note_making(took);
        }
        let max = self.template.spec().max_warm;
        if max == 0 || !self.is_worthwhile() {
            return;
        }
        // This one included, whose slot may have been given back already.
        let running = running().max(1);
        // With every processor busy there is no time to make instances beforehand.
        if running <= self.budget.processors {
            self.peak.fetch_max(running, Relaxed);
            self.wanted.fetch_max(running.min(max), Relaxed);
            self.refill();
        }
    }

    /// Keeps at least so many warm from here on, also while there are no calls.
    pub(crate) fn keep_warm(self: &Arc<Self>, floor: usize) {
        self.floor.store(floor, Relaxed);
        self.wanted.fetch_max(floor, Relaxed);
        self.refill();
    }

    /// Keeps an instance for its next call, where the owner has chosen that.
    pub(crate) fn keep(self: &Arc<Self>, mut instance: Instance) {
        let Isolation::Reuse { max_uses, .. } = self.template.spec().isolation else { return };
        instance.uses += 1;
        if instance.uses >= max_uses {
            return;
        }
        instance.since = Instant::now();
        instance.end(Arc::clone(self.template.policy()));
        if self.put(instance) {
            self.watch();
        }
    }

    fn note_making(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // Most functions are soon known to be quick, and then nothing is written.
        if took < self.quickest.load(Relaxed) {
            self.quickest.fetch_min(took, Relaxed);
        }
        if self.made.load(Relaxed) < MAKINGS {
            self.made.fetch_add(1, Relaxed);
        }
    }

    /// Whether making one takes so long that some should wait: by the quickest of several, because
    /// a busy machine makes single ones look slow.
    fn is_worthwhile(&self) -> bool {
        u128::from(self.quickest.load(Relaxed)) >= self.budget.worthwhile.as_nanos()
            && self.made.load(Relaxed) >= MAKINGS
    }

    pub(crate) fn budget(&self) -> &Arc<WarmBudget> {
        &self.budget
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Takes one, if one waits.
    pub(crate) fn take(&self) -> Option<Instance> {
        // Most functions have none, and then nobody takes a lock.
        if self.count() == 0 {
            return None;
        }
        let (instance, _place) = {
            let mut instances = self.lock();
            let last = instances.pop();
            self.count.store(instances.len(), Relaxed);
            last?
        };
        Some(instance)
    }

    /// Lets an instance wait, if the budget has a place for it.
    fn put(&self, mut instance: Instance) -> bool {
        let bytes = instance.memory_bytes() as u64;
        self.bytes.store(bytes, Relaxed);
        let Some(place) = self.budget.place(bytes) else { return false };
        let mut instances = self.lock();
        instances.push((instance, place));
        self.count.store(instances.len(), Relaxed);
        true
    }

    /// Whether more shall wait than do, and the budget may have a place.
    fn is_short(&self) -> bool {
        let missing = self.count() < self.wanted.load(Relaxed);
        missing && self.budget.place(self.bytes.load(Relaxed)).is_some()
    }

    /// Makes instances that are missing, in a task of its own.
    fn refill(self: &Arc<Self>) {
        if !self.is_short() {
            return;
        }
        self.watch();
        // One at a time: making them must not take all processors.
        if !self.making.begin() {
            return;
        }
        let set = Arc::clone(self);
        // Nobody waits for it: it ends with its work, and a panic in it costs nothing but that.
        tokio::spawn(async move {
            let set = &set;
            let make = async || {
                let made = set.make().await;
                // Requests come first.
                task::yield_now().await;
                made
            };
            set.making.until_enough(|| set.is_short(), make).await;
        });
    }

    /// Makes one that waits. Says whether that went well.
    async fn make(&self) -> bool {
        let (made, cpu) = self.template.instantiate_ahead().await;
        self.cpu_seconds.inc_by(cpu.as_secs_f64());
        match made {
            Ok(instance) => self.put(instance),
            // The node is full: those who need an instance now come first.
            Err(InvokeError::Instances | InvokeError::NodeMemory) => false,
            Err(error) => {
                self.want_none();
                let log = self.template.log();
                log.system(0, &format!("making an instance that waits: {error}"));
                false
            }
        }
    }

    fn watch(self: &Arc<Self>) {
        if !self.watched.load(Relaxed) && !self.watched.swap(true, AcqRel) {
            self.budget.lock().push(Arc::downgrade(self));
        }
    }

    fn want_none(&self) {
        self.floor.store(0, Relaxed);
        self.wanted.store(0, Relaxed);
    }

    /// Drops all, for good: the function leaves.
    pub(crate) fn close(&self) {
        self.want_none();
        self.clear();
    }

    /// Lets the number fall towards what was in use lately, and those leave that have waited for
    /// longer than their isolation says. Says whether anything waits or shall.
    fn adjust(self: &Arc<Self>, now: Instant) -> bool {
        let any = self.shrink(now);
        self.refill();
        any
    }

    fn shrink(&self, now: Instant) -> bool {
        let idle = match self.template.spec().isolation {
            Isolation::Request => None,
            Isolation::Reuse { idle, .. } => Some(idle),
        };
        let peak = self.peak.swap(0, Relaxed);
        let wanted = self.wanted.load(Acquire);
        let floor = self.floor.load(Relaxed);
        // A quarter less at each adjustment.
        let lower = (wanted * 3 / 4).max(peak.min(wanted)).max(floor);
        self.wanted.store(lower, Relaxed);
        let surplus = {
            let mut instances = self.lock();
            let keep = idle.map_or(lower, |_| instances.len().max(lower));
            // Those at the front have waited longest.
            let mut leave = instances.len().saturating_sub(keep);
            if let Some(idle) = idle {
                let stale = |(instance, _): &(Instance, Place)| now - instance.since >= idle;
                let most = instances.len().saturating_sub(floor);
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

    /// Lets all leave. Says whether there were any.
    fn clear(&self) -> bool {
        let all = {
            let mut instances = self.lock();
            self.count.store(0, Relaxed);
            std::mem::take(&mut *instances)
        };
        !all.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instance, Place)>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
