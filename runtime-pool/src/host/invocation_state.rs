//! What the parts of one running invocation share.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    engine::cpu_meter::CpuMeter,
    error::Limit,
    host::clock::Seen,
    metrics::start::{Phase, Start, Tier},
};

/// What an invocation shares between its guest, its body and its accounting.
#[derive(Debug, Default)]
pub(crate) struct InvocationState {
    pub(crate) meter: CpuMeter,
    pub(crate) outcome: Outcome,
    /// How long making the instance took; 0 if it had waited.
    instantiate_ns: AtomicU64,
    /// Whether the guest was only interrupted when its last poll ended.
    interrupted: AtomicBool,
    /// The limits at which the guest was refused more, one bit each.
    refused: AtomicU32,
}

impl InvocationState {
    /// Notes how long making the instance took.
    pub(crate) fn instantiated(&self, since: Instant) {
        self.instantiate_ns.store(nanoseconds(since).max(1), Relaxed);
    }

    /// Notes that the guest's turn ends while it computes.
    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Relaxed);
    }

    /// Whether the guest's turn has ended while it computed.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    /// Notes that the guest was refused more.
    pub(crate) fn refuse(&self, limit: Limit) {
        self.refused.fetch_or(1 << limit as u32, Relaxed);
    }

    /// Where the guest was refused more.
    pub(crate) fn refused(&self) -> impl Iterator<Item = Limit> {
        let refused = self.refused.load(Relaxed);
        Limit::ALL.into_iter().filter(move |limit| refused & 1 << *limit as u32 != 0)
    }

    /// Whether growth of memory was refused, and by which limit: it explains the failure that
    /// usually follows.
    pub(crate) fn refused_memory(&self) -> Option<Limit> {
        self.refused().find(|limit| matches!(limit, Limit::Memory | Limit::NodeMemory))
    }

    /// Adds the guest's part, which began at `since`, to how the invocation started.
    pub(crate) fn note(&self, start: &mut Start, since: Instant) {
        let instantiate = Duration::from_nanos(self.instantiate_ns.load(Relaxed));
        if !instantiate.is_zero() {
            start.phases.set(Phase::Instantiate, instantiate);
        } else if start.tier == Tier::Loaded {
            start.tier = Tier::Warm;
        }
        start.phases.set(Phase::Guest, since.elapsed().saturating_sub(instantiate));
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Marks the run as failed unless the guest came to a good end. Declared after the store, so that
/// it is dropped first: on a trap, a panic or a cancelled call alike.
pub(crate) struct FailOnDrop<'a>(Option<&'a Outcome>);

impl<'a> FailOnDrop<'a> {
    pub(crate) fn new(outcome: &'a Outcome) -> Self {
        Self(Some(outcome))
    }

    pub(crate) fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for FailOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(outcome) = self.0 {
            outcome.fail();
        }
    }
}

/// Whether the guest's part of a response came to a good end. Set before the guest's store goes,
/// because the end of the store also looks like the end of the body.
#[derive(Debug, Default)]
pub(crate) struct Outcome(AtomicBool);

impl Outcome {
    pub(crate) fn fail(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn failed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A future whose polls are counted by its run's meter.
pub(crate) struct Metered<F> {
    future: Pin<Box<F>>,
    run: Arc<InvocationState>,
    /// What the guest saw of time when its last poll ended.
    seen: Option<Seen>,
}

impl<F> Metered<F> {
    /// Takes the future boxed: guests' futures are large, and moving them costs.
    pub(crate) fn new(future: Pin<Box<F>>, run: Arc<InvocationState>) -> Self {
        Self { future, run, seen: None }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let started = Instant::now();
        let interrupted = self.run.interrupted.swap(false, Relaxed);
        self.seen.filter(|_| interrupted).unwrap_or_else(|| Seen::new(started)).show();
        CpuMeter::begin_poll(started);
        let result = self.future.as_mut().poll(cx);
        self.run.meter.end_poll(started);
        self.seen = Seen::hide();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn only_the_time_inside_polls_counts() {
        let run = Arc::new(InvocationState::default());
        let sleeper = Box::pin(tokio::time::sleep(Duration::from_millis(50)));
        Metered::new(sleeper, Arc::clone(&run)).await;
        assert!(run.meter.used() < Duration::from_millis(25), "{:?}", run.meter.used());
    }

    #[tokio::test]
    async fn a_guest_that_has_waited_pays_for_what_it_computes_and_not_for_the_epoch() {
        let run = Arc::new(InvocationState::default());
        for _ in 0..100 {
            let inner = Arc::clone(&run);
            let wakes = Box::pin(async move {
                inner.meter.tick(EPOCH);
            });
            Metered::new(wakes, Arc::clone(&run)).await;
        }
        assert!(run.meter.used() < 100 * EPOCH / 2, "{:?}", run.meter.used());
    }

    #[tokio::test]
    async fn a_poll_longer_than_a_tick_is_measured_by_the_cpu_clock() {
        let run = Arc::new(InvocationState::default());
        let inner = Arc::clone(&run);
        let busy = Box::pin(async move {
            std::thread::sleep(EPOCH);
            inner.meter.tick(EPOCH);
            // Off the CPU: the monotonic clock runs on, the thread's own does not.
            std::thread::sleep(Duration::from_millis(200));
        });
        Metered::new(busy, Arc::clone(&run)).await;
        assert!(run.meter.used() >= EPOCH);
        assert!(run.meter.used() < Duration::from_millis(100), "{:?}", run.meter.used());
    }
}
