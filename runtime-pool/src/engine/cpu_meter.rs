//! How much CPU time an invocation has used.
//!
//! Guests run inside `poll`. Each poll is timed with the monotonic clock, which costs
//! nanoseconds; only a poll that is still running when the epoch ticks is measured with the
//! thread's CPU clock, so that a guest does not pay for the time its thread was preempted.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

thread_local! {
    /// When the poll began that this thread is in.
    static POLL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Shared by an invocation's future, which is polled, and the epoch callback of its store.
///
/// Both run on the same thread at any one time, so relaxed ordering is enough.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    used_ns: AtomicU64,
    /// CPU clock of the thread at the first tick within the current poll; 0 before it.
    tick_ns: AtomicU64,
}

impl CpuMeter {
    /// CPU time used up to the end of the last poll or tick.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used_ns.load(Relaxed))
    }

    /// Called from within a poll at each tick of an epoch; returns the time used so far.
    pub(crate) fn tick(&self, epoch: Duration) -> Duration {
        let now = thread_cpu_ns();
        let last = self.tick_ns.swap(now, Relaxed);
        let spent = match last {
            // The first tick of a guest that had waited comes right away, because the epoch went
            // on meanwhile; that of one that had not comes after an epoch at the latest.
            0 => {
                let polled = POLL.get().map_or(epoch, |started| started.elapsed());
                polled.min(epoch).as_nanos() as u64
            }
            last => now - last,
        };
        self.used_ns.fetch_add(spent, Relaxed);
        self.used()
    }

    /// Called at the beginning of each poll.
    pub(crate) fn begin_poll(started: Instant) {
        POLL.set(Some(started));
    }

    /// Called at the end of each poll.
    pub(crate) fn end_poll(&self, started: Instant) {
        let spent = match self.tick_ns.swap(0, Relaxed) {
            0 => started.elapsed().as_nanos() as u64,
            last => thread_cpu_ns() - last,
        };
        self.used_ns.fetch_add(spent, Relaxed);
    }
}

/// CPU time that the calling thread has used.
pub(crate) fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
