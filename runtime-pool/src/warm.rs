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

use crate::{
    Function,
    host::instance::Instance,
    metrics::PoolMetrics,
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
    /// Functions for which something waits, or shall.
    functions: Mutex<Vec<Weak<Function>>>,
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
            functions: Mutex::default(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            metrics,
        }
    }

    /// Invocations that can make progress at the same time.
    pub(crate) fn processors(&self) -> usize {
        self.processors
    }

    /// A place for an instance of so many bytes, if there is one.
    pub(crate) fn place(self: &Arc<Self>, bytes: u64) -> Option<Place> {
        self.room.take(bytes).then(|| {
            self.metrics.warm_instances.inc();
            Place { budget: Arc::clone(self), bytes }
        })
    }

    /// Looks after a function's waiting instances from now on.
    fn watch(&self, function: &Arc<Function>) {
        self.lock().push(Arc::downgrade(function));
    }

    /// Adjusts to what was asked for since the last time.
    pub(crate) fn tick(&self) {
        let now = Instant::now();
        // Not under the lock: dropping instances takes time.
        let functions = std::mem::take(&mut *self.lock());
        let kept = functions
            .into_iter()
            .filter(|function| function.upgrade().is_some_and(|f| f.adjust_waiting(now)));
        let kept: Vec<_> = kept.collect();
        self.lock().extend(kept);
    }

    /// Lets go of all that waits, because somebody needs an instance now. Says whether it helped.
    pub(crate) fn release(&self) -> bool {
        let functions: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        functions.iter().filter(|function| function.waiting().clear()).count() > 0
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Function>>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.budget.metrics.warm_instances.dec();
        self.budget.room.give_back(self.bytes);
    }
}

/// What waits for one function.
pub(crate) struct WarmSet {
    budget: Arc<WarmBudget>,
    /// The one that came last is called first: its memory is still in the processor's caches.
    instances: Mutex<Vec<(Instance, Place)>>,
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
    pub(crate) fn new(budget: Arc<WarmBudget>) -> Self {
        Self {
            budget,
            instances: Mutex::default(),
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

    /// Notes how long making one took.
    pub(crate) fn note_making(&self, took: Duration) {
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
    pub(crate) fn is_worthwhile(&self) -> bool {
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
    pub(crate) fn put(&self, mut instance: Instance) -> bool {
        let bytes = instance.memory_bytes() as u64;
        self.bytes.store(bytes, Relaxed);
        let Some(place) = self.budget.place(bytes) else { return false };
        let mut instances = self.lock();
        instances.push((instance, place));
        self.count.store(instances.len(), Relaxed);
        true
    }

    /// Notes that so many were in use at once, of which at most `max` shall wait.
    pub(crate) fn in_use(&self, running: usize, max: usize) {
        self.peak.fetch_max(running, Relaxed);
        self.wanted.fetch_max(running.min(max), Relaxed);
    }

    /// Sets how many shall wait even if nobody calls.
    pub(crate) fn set_floor(&self, floor: usize) {
        self.floor.store(floor, Relaxed);
        self.wanted.fetch_max(floor, Relaxed);
    }

    /// Whether more shall wait than do, and the budget may have a place.
    pub(crate) fn is_short(&self) -> bool {
        let missing = self.count() < self.wanted.load(Relaxed);
        missing && self.budget.place(self.bytes.load(Relaxed)).is_some()
    }

    /// The right to make more. One at a time: making them must not take all processors.
    pub(crate) fn begin_making(&self, function: &Arc<Function>) -> bool {
        self.watch(function);
        self.making.begin()
    }

    pub(crate) fn making(&self) -> &Refilling {
        &self.making
    }

    pub(crate) fn watch(&self, function: &Arc<Function>) {
        if !self.watched.load(Relaxed) && !self.watched.swap(true, AcqRel) {
            self.budget.watch(function);
        }
    }

    /// Gives up on making any: it has failed.
    pub(crate) fn give_up(&self) {
        self.floor.store(0, Relaxed);
        self.wanted.store(0, Relaxed);
    }

    /// Lets the number fall towards what was in use lately, and those leave that have waited for
    /// longer than `idle`. Says whether anything waits or shall.
    pub(crate) fn adjust(&self, now: Instant, idle: Option<Duration>) -> bool {
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
    pub(crate) fn clear(&self) -> bool {
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
