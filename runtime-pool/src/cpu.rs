//! How much CPU time an invocation has used.
//!
//! Guests run inside `poll`. Each poll is timed with the monotonic clock, which costs
//! nanoseconds; only a poll that is still running when the epoch ticks is measured with the
//! thread's CPU clock, so that a guest does not pay for the time its thread was preempted.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::engine::EPOCH_TICK;

/// Shared by an invocation's future, which is polled, and its store's epoch callback.
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

    /// Called from within a poll at each epoch tick; returns the time used so far.
    pub(crate) fn tick(&self) -> Duration {
        let now = thread_cpu_ns();
        let last = self.tick_ns.swap(now, Relaxed);
        // Before the first tick at most one epoch has passed since the poll began.
        let spent = if last == 0 { EPOCH_TICK.as_nanos() as u64 } else { now - last };
        self.used_ns.fetch_add(spent, Relaxed);
        self.used()
    }

    fn end_poll(&self, started: Instant) {
        let spent = match self.tick_ns.swap(0, Relaxed) {
            0 => started.elapsed().as_nanos() as u64,
            last => thread_cpu_ns() - last,
        };
        self.used_ns.fetch_add(spent, Relaxed);
    }
}

fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A future whose polls are counted by `meter`.
pub(crate) struct Metered<F> {
    future: Pin<Box<F>>,
    meter: Arc<CpuMeter>,
}

impl<F> Metered<F> {
    /// Takes the future boxed: guests' futures are large, and moving them costs.
    pub(crate) fn new(future: Pin<Box<F>>, meter: Arc<CpuMeter>) -> Self {
        Self { future, meter }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let started = Instant::now();
        let result = self.future.as_mut().poll(cx);
        self.meter.end_poll(started);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_time_inside_polls_counts() {
        let meter = Arc::new(CpuMeter::default());
        let sleeper = Box::pin(tokio::time::sleep(Duration::from_millis(50)));
        Metered::new(sleeper, Arc::clone(&meter)).await;
        assert!(meter.used() < Duration::from_millis(25), "{:?}", meter.used());
    }

    #[tokio::test]
    async fn a_poll_longer_than_a_tick_is_measured_by_the_cpu_clock() {
        let meter = Arc::new(CpuMeter::default());
        let inner = Arc::clone(&meter);
        let busy = Box::pin(async move {
            inner.tick();
            // Off the CPU: the monotonic clock runs on, the thread's own does not.
            std::thread::sleep(Duration::from_millis(200));
        });
        Metered::new(busy, Arc::clone(&meter)).await;
        assert!(meter.used() >= EPOCH_TICK);
        assert!(meter.used() < Duration::from_millis(100), "{:?}", meter.used());
    }
}
