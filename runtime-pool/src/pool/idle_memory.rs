//! When is the memory that unused slots keep given back?
//!
//! Slots keep memory of instances that have ended, because the next call is then faster. It is worth
//! nothing while there are no calls. So after each period a node that has more than its few calls can
//! account for gives back the memory of all unused slots, at once. Calls do nothing for this: their
//! number is read from the metrics, and the memory from the kernel.

use std::{
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Release},
        },
    },
    thread,
    time::{Duration, Instant},
};

use rustix::param::page_size;
use wasmtime::Engine;

use crate::{
    EngineConfig, PoolMetrics,
    engine::{EngineSlots, idle_slots::give_back},
    metrics::idle::IdleMemoryMetrics,
};

/// Memory that is not worth the work.
const SMALL_BYTES: u64 = 16 << 20;
/// Calls during the work that end it: the node is not idle any more.
const CALLS_MAX: u64 = 8;

/// Gives memory back when the node is idle.
pub(super) struct IdleMemory(Arc<Shared>);

struct Shared {
    engines: Vec<Engine>,
    /// Slots of each engine, their size, and what they keep.
    slots: usize,
    slot_bytes: usize,
    keep_bytes: u64,
    /// Zero: never.
    period: Duration,
    metrics: PoolMetrics,
    watch: Mutex<IdleWatch>,
    working: AtomicBool,
}

impl IdleMemory {
    pub(super) fn new(config: &EngineConfig, engines: Vec<Engine>, metrics: PoolMetrics) -> Self {
        Self(Arc::new(Shared {
            engines,
            slots: EngineSlots::new(config).memories as usize,
            slot_bytes: config.memory_bytes_max,
            keep_bytes: config.keep_bytes as u64,
            period: config.idle_memory,
            watch: Mutex::new(IdleWatch::new(Instant::now(), metrics.calls())),
            metrics,
            working: AtomicBool::new(false),
        }))
    }

    /// Begins to give memory back, if it is time. Must be called regularly.
    pub(super) fn tick(&self) {
        let shared = &self.0;
        let due = !shared.period.is_zero() && shared.is_due(Instant::now());
        if !due || shared.working.swap(true, AcqRel) {
            return;
        }
        let work = Arc::clone(shared);
        let named = thread::Builder::new().name("mayfly-idle".into());
        if named.spawn(move || work.give_back()).is_err() {
            // It is tried again after the next period.
            shared.working.store(false, Release);
        }
    }
}

impl Shared {
    fn is_due(&self, now: Instant) -> bool {
        let bytes = self.bytes_besides_instances();
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.is_due(now, self.period, bytes, self.metrics.calls(), self.keep_bytes)
    }

    fn give_back(&self) {
        let (before, calls) = (private_bytes(), self.metrics.calls());
        let is_idle = || self.metrics.calls() - calls < CALLS_MAX;
        let slots = give_back(&self.engines, self.slots, self.slot_bytes, &is_idle);
        let returned = before.saturating_sub(private_bytes());
        let IdleMemoryMetrics { slots: all, bytes } = &self.metrics.idle_memory;
        all.inc_by(slots as u64);
        bytes.inc_by(returned);
        if is_idle() {
            let left = self.bytes_besides_instances();
            self.watch.lock().unwrap_or_else(PoisonError::into_inner).least_bytes = left;
        }
        tracing::debug!(slots, returned, "gave back the memory of unused slots");
        self.working.store(false, Release);
    }

    /// Memory of this process, without that of instances that live. They may use less than they
    /// have, so this may be too little.
    fn bytes_besides_instances(&self) -> u64 {
        let instances = self.metrics.memory_bytes.get();
        private_bytes().saturating_sub(u64::try_from(instances).unwrap_or(0))
    }
}

/// Memory of this process that belongs to no file. If the kernel does not tell, it is zero, and
/// nothing is given back.
fn private_bytes() -> u64 {
    let pages = || {
        let numbers = fs::read_to_string("/proc/self/statm").ok()?;
        let mut numbers = numbers.split(' ').skip(1).map_while(|number| number.parse::<u64>().ok());
        let (resident, of_files) = (numbers.next()?, numbers.next()?);
        resident.checked_sub(of_files)
    };
    pages().unwrap_or(0) * page_size() as u64
}

/// Decides whether a period was idle.
struct IdleWatch {
    since: Instant,
    /// Calls up to then.
    calls: u64,
    /// The least memory that was seen since memory was given back.
    least_bytes: u64,
}

impl IdleWatch {
    fn new(now: Instant, calls: u64) -> Self {
        Self { since: now, calls, least_bytes: u64::MAX }
    }

    /// Whether a period has ended in which there was more memory than its calls can account for.
    fn is_due(
        &mut self,
        now: Instant,
        period: Duration,
        bytes: u64,
        calls: u64,
        keep_bytes: u64,
    ) -> bool {
        self.least_bytes = self.least_bytes.min(bytes);
        if now - self.since < period {
            return false;
        }
        let in_period = calls - self.calls;
        (self.since, self.calls) = (now, calls);
        let of_calls = in_period.saturating_mul(keep_bytes);
        bytes > self.least_bytes.saturating_add(SMALL_BYTES).saturating_add(of_calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const PERIOD: Duration = Duration::from_secs(10);

    /// Looks at the end of each period, with the memory and the calls of that period.
    fn decisions(periods: &[(u64, u64)]) -> Vec<bool> {
        let start = Instant::now();
        let mut watch = IdleWatch::new(start, 0);
        watch.is_due(start, PERIOD, 20 * MIB, 0, 8 * MIB);
        let (mut now, mut calls) = (start, 0);
        let each = periods.iter().map(|&(mib, more)| {
            calls += more;
            let early = now + PERIOD / 2;
            assert!(!watch.is_due(early, PERIOD, mib * MIB, calls, 8 * MIB));
            now += PERIOD;
            watch.is_due(now, PERIOD, mib * MIB, calls, 8 * MIB)
        });
        each.collect()
    }

    #[test]
    fn a_period_without_calls_is_idle_if_there_is_enough_memory() {
        assert_eq!(decisions(&[(36, 0), (37, 0), (600, 0)]), [false, true, true]);
    }

    #[test]
    fn a_few_calls_are_no_reason_to_keep_the_memory_of_many() {
        assert_eq!(decisions(&[(600, 2), (600, 80), (36 + 16, 2)]), [true, false, false]);
    }

    #[test]
    fn memory_that_stays_is_not_counted_again() {
        let start = Instant::now();
        let mut watch = IdleWatch { since: start, calls: 0, least_bytes: 500 * MIB };
        assert!(!watch.is_due(start + PERIOD, PERIOD, 510 * MIB, 0, 8 * MIB));
        assert!(watch.is_due(start + 2 * PERIOD, PERIOD, 520 * MIB, 0, 8 * MIB));
        // Less than at any time before: counted from there.
        assert!(!watch.is_due(start + 3 * PERIOD, PERIOD, 100 * MIB, 0, 8 * MIB));
        assert!(watch.is_due(start + 4 * PERIOD, PERIOD, 120 * MIB, 0, 8 * MIB));
    }

    #[test]
    fn the_kernel_tells_the_memory_of_this_process() {
        let before = private_bytes();
        let large = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(private_bytes() > before + 32 * MIB, "{before}");
        drop(large);
    }
}
