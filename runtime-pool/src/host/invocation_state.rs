//! The state that the parts of one running invocation share.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    engine::cpu_meter::CpuMeter,
    error::Limit,
    host::wasi::clock::GuestTime,
    limits::holders::Holder,
    metrics::start::{Phase, Start, Tier},
};

/// Shared between the guest of an invocation, its body and its accounting.
#[derive(Debug, Default)]
pub(crate) struct InvocationState {
    pub(crate) meter: CpuMeter,
    pub(crate) outcome: GuestOutcome,
    /// How long making the instance took. 0 if it was warm.
    instantiate_ns: AtomicU64,
    /// Whether the last poll of the guest ended by an interruption at a tick.
    interrupted: AtomicBool,
    /// The limits by which the guest was refused a resource, one bit each.
    refused: AtomicU32,
    /// Whether the guest has made a response, or a body for one.
    made_response: AtomicBool,
    /// Set if the host keeps much for the guest.
    holder: OnceLock<Arc<Holder>>,
}

impl InvocationState {
    /// Records how long making the instance took.
    pub(crate) fn note_instantiation(&self, since: Instant) {
        self.instantiate_ns.store(nanoseconds(since).max(1), Relaxed);
    }

    /// Records that a tick interrupts the guest.
    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Relaxed);
    }

    /// Whether a tick has interrupted the guest in its last poll.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    /// Records that the guest has made a response.
    pub(crate) fn make_response(&self) {
        self.made_response.store(true, Relaxed);
    }

    /// Whether the guest has made a response. It need not have given it yet.
    pub(crate) fn made_response(&self) -> bool {
        self.made_response.load(Relaxed)
    }

    /// Records that the host keeps much for the guest.
    pub(crate) fn set_holder(&self, holder: &Arc<Holder>) {
        self.holder.get_or_init(|| Arc::clone(holder));
    }

    /// Ready once the node ends the guest because the host keeps much for it.
    pub(crate) fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        self.holder.get().map_or(Poll::Pending, |holder| holder.poll_ended(cx))
    }

    /// Records that the guest was refused a resource.
    pub(crate) fn refuse(&self, limit: Limit) {
        self.refused.fetch_or(1 << limit as u32, Relaxed);
    }

    /// Whether the guest was refused a resource by this limit.
    pub(crate) fn was_refused(&self, limit: Limit) -> bool {
        self.refused.load(Relaxed) & 1 << limit as u32 != 0
    }

    /// The limits by which the guest was refused a resource.
    pub(crate) fn refused(&self) -> impl Iterator<Item = Limit> {
        Limit::ALL.into_iter().filter(|limit| self.was_refused(*limit))
    }

    /// The limit by which the guest was refused more memory, if it was. That explains the failure
    /// which usually follows.
    pub(crate) fn refused_memory(&self) -> Option<Limit> {
        self.refused().find(|limit| matches!(limit, Limit::Memory | Limit::NodeMemory))
    }

    /// Adds the phases of the guest, which began at `since`, to those of the invocation's start.
    pub(crate) fn add_phases(&self, start: &mut Start, since: Instant) {
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

/// Marks the invocation as failed unless it is disarmed: on a trap, a panic and a cancelled call alike.
pub(crate) struct FailOnDrop<'a>(Option<&'a GuestOutcome>);

impl<'a> FailOnDrop<'a> {
    pub(crate) fn new(outcome: &'a GuestOutcome) -> Self {
        Self(Some(outcome))
    }

    pub(crate) fn disarm(mut self) {
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

/// How far the guest has come.
#[derive(Debug, Default)]
pub(crate) struct GuestOutcome {
    /// Whether it has failed. Set before its store is dropped, because the end of the store also
    /// looks like the end of the body.
    failed: AtomicBool,
    /// Whether the body of its response has ended.
    responded: AtomicBool,
}

impl GuestOutcome {
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(crate) fn respond(&self) {
        self.responded.store(true, Relaxed);
    }

    pub(crate) fn has_responded(&self) -> bool {
        self.responded.load(Relaxed)
    }
}

/// A guest's future whose polls are measured by the CPU meter of its invocation.
pub(crate) struct MeteredGuest<F> {
    future: Pin<Box<F>>,
    state: Arc<InvocationState>,
    /// The time that the guest saw at the end of its last poll.
    time: Option<GuestTime>,
}

impl<F> MeteredGuest<F> {
    /// Takes the future boxed, because the futures of guests are large and moving them costs time.
    pub(crate) fn new(future: Pin<Box<F>>, state: Arc<InvocationState>) -> Self {
        Self { future, state, time: None }
    }
}

impl<F: Future> Future for MeteredGuest<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let started = Instant::now();
        let interrupted = self.state.interrupted.swap(false, Relaxed);
        self.time.filter(|_| interrupted).unwrap_or_else(|| GuestTime::new(started)).show();
        CpuMeter::begin_poll(started);
        let result = self.future.as_mut().poll(cx);
        self.state.meter.end_poll(started);
        self.time = GuestTime::hide();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu_meter::thread_cpu_ns;

    const EPOCH: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn only_the_time_inside_polls_counts() {
        let state = Arc::new(InvocationState::default());
        let sleeper = Box::pin(tokio::time::sleep(Duration::from_millis(50)));
        MeteredGuest::new(sleeper, Arc::clone(&state)).await;
        assert!(state.meter.used() < Duration::from_millis(25), "{:?}", state.meter.used());
    }

    #[tokio::test]
    async fn a_guest_that_has_waited_pays_for_what_it_computes_and_not_for_the_epoch() {
        let state = Arc::new(InvocationState::default());
        for _ in 0..100 {
            let inner = Arc::clone(&state);
            let wakes = Box::pin(async move {
                inner.meter.tick(EPOCH);
            });
            MeteredGuest::new(wakes, Arc::clone(&state)).await;
        }
        assert!(state.meter.used() < 100 * EPOCH / 2, "{:?}", state.meter.used());
    }

    #[tokio::test]
    async fn time_in_the_host_before_the_first_tick_counts() {
        let long = 10 * EPOCH;
        let state = Arc::new(InvocationState::default());
        let inner = Arc::clone(&state);
        let busy = Box::pin(async move {
            let begun = thread_cpu_ns();
            while thread_cpu_ns() - begun < long.as_nanos() as u64 {}
            inner.meter.tick(EPOCH);
        });
        MeteredGuest::new(busy, Arc::clone(&state)).await;
        assert!(state.meter.used() >= long, "{:?}", state.meter.used());
        assert!(state.meter.longest_poll() >= long);
    }

    #[tokio::test]
    async fn a_poll_longer_than_a_tick_is_measured_by_the_cpu_clock() {
        let state = Arc::new(InvocationState::default());
        let inner = Arc::clone(&state);
        let busy = Box::pin(async move {
            let begun = thread_cpu_ns();
            while thread_cpu_ns() - begun < EPOCH.as_nanos() as u64 {}
            inner.meter.tick(EPOCH);
            // Off the CPU: the monotonic clock runs on, the thread's own does not.
            std::thread::sleep(Duration::from_millis(200));
        });
        MeteredGuest::new(busy, Arc::clone(&state)).await;
        assert!(state.meter.used() >= EPOCH);
        assert!(state.meter.used() < Duration::from_millis(100), "{:?}", state.meter.used());
    }
}
