//! How much CPU time an invocation has used.
//!
//! Guests run inside `poll`. Each poll is timed with the monotonic clock, which costs
//! nanoseconds; only a poll that takes longer than a tick is measured with the thread's CPU clock, so
//! that a guest does not pay for the time its thread was preempted.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// A poll that takes longer is measured with the thread's CPU clock.
const LONG: Duration = Duration::from_millis(5);

thread_local! {
    /// When the poll began that this thread is in.
    static POLL: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The thread's CPU clock, read not long before that poll began.
    static CPU_BEFORE: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
    /// Bytes that the host has worked on in that poll.
    static HOST_WORK: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that the host works on in one poll of a guest.
const HOST_WORK_BYTES: usize = 64 << 10;
/// Bytes from which on the host looks at the clock, too: some kinds of work take longer for each.
const CLOCK_BYTES: usize = 4 << 10;

/// Counts bytes that the host works on for the guest which is polled on this thread. The engine
/// interrupts guests only in their own code: a host function that gets many bytes at once asks
/// [`host_must_yield`].
pub(crate) fn note_host_work(bytes: usize) {
    HOST_WORK.set(HOST_WORK.get() + bytes);
}

/// Whether the host has worked for as long as a guest may keep a thread to itself.
pub(crate) fn host_must_yield(tick: Duration) -> bool {
    let bytes = HOST_WORK.get();
    bytes >= HOST_WORK_BYTES
        || bytes >= CLOCK_BYTES && POLL.get().is_some_and(|started| started.elapsed() >= tick)
}

/// Shared by an invocation's future, which is polled, and the epoch callback of its store.
///
/// Both run on the same thread at any one time, so relaxed ordering is enough.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    used_ns: AtomicU64,
    /// CPU clock of the thread at the first tick within the current poll; 0 before it.
    tick_ns: AtomicU64,
    /// CPU time used in the current poll, up to its last tick.
    poll_ns: AtomicU64,
    /// That of the longest poll.
    longest_ns: AtomicU64,
}

impl CpuMeter {
    /// CPU time used up to the end of the last poll or tick.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used_ns.load(Relaxed))
    }

    /// The CPU time of the longest poll so far.
    pub(crate) fn longest_poll(&self) -> Duration {
        Duration::from_nanos(self.longest_ns.load(Relaxed))
    }

    /// Called from within a poll at each tick of an epoch; returns the time used so far.
    pub(crate) fn tick(&self, epoch: Duration) -> Duration {
        let now = thread_cpu_ns();
        let last = self.tick_ns.swap(now, Relaxed);
        let spent = match last {
            // The first tick of a guest that had waited comes right away, because the epoch went
            // on meanwhile; that of one that had not comes after an epoch at the latest, unless the
            // guest has called the host and stayed there.
            0 => match POLL.get() {
                Some(started) if started.elapsed() > epoch => since_poll_began(started, now),
                Some(started) => started.elapsed().as_nanos() as u64,
                None => epoch.as_nanos() as u64,
            },
            last => now - last,
        };
        self.poll_ns.fetch_add(spent, Relaxed);
        self.used_ns.fetch_add(spent, Relaxed);
        self.used()
    }

    /// Called at the beginning of each poll.
    pub(crate) fn begin_poll(started: Instant) {
        POLL.set(Some(started));
        HOST_WORK.set(0);
        // Reading this clock is a system call, so it is not read for each of many short polls.
        if CPU_BEFORE.get().is_none_or(|(at, _)| started.saturating_duration_since(at) > LONG) {
            CPU_BEFORE.set(Some((started, thread_cpu_ns())));
        }
    }

    /// Called at the end of each poll.
    pub(crate) fn end_poll(&self, started: Instant) {
        let spent = match self.tick_ns.swap(0, Relaxed) {
            0 => match started.elapsed() {
                long if long > LONG => since_poll_began(started, thread_cpu_ns()),
                short => short.as_nanos() as u64,
            },
            last => thread_cpu_ns() - last,
        };
        self.used_ns.fetch_add(spent, Relaxed);
        let poll = self.poll_ns.swap(0, Relaxed) + spent;
        if poll > self.longest_ns.load(Relaxed) {
            self.longest_ns.store(poll, Relaxed);
        }
    }
}

/// CPU time since a poll began, as the thread's CPU clock says `now`. It may include as much as
/// [`LONG`] of what the thread did before.
fn since_poll_began(started: Instant, now: u64) -> u64 {
    let elapsed = started.elapsed().as_nanos() as u64;
    CPU_BEFORE.get().map_or(elapsed, |(_, before)| elapsed.min(now - before))
}

/// CPU time that the calling thread has used.
pub(crate) fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
