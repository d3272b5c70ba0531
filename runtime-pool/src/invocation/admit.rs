//! Admission: a concurrency slot, and a wait while the processors are busy.

use std::{sync::Arc, time::Instant};

use crate::{
    Function, InvokeError,
    admission::slots::NoSlot,
    invocation::guard::Slot,
    metrics::{
        GaugeGuard,
        start::{Phase, Start},
    },
};

/// Takes a slot, and waits in the run queue while the processors are busy. Also returns the time: `now`,
/// if there was no wait.
pub(super) async fn admit(
    function: &Arc<Function>,
    start: &mut Start,
    now: Instant,
) -> Result<(Slot, Instant), InvokeError> {
    // The waits are boxed, so that calls which need not wait are small.
    let (slot, waited) = match Slot::try_take(function) {
        Some(slot) => (slot, false),
        None => (Box::pin(wait_for_slot(function, start)).await?, true),
    };
    let queues = must_queue(function, now);
    if queues {
        Box::pin(wait_in_run_queue(function, start)).await;
    }
    Ok((slot, if waited || queues { Instant::now() } else { now }))
}

/// Waits for a slot in the bounded queue.
async fn wait_for_slot(function: &Arc<Function>, start: &mut Start) -> Result<Slot, InvokeError> {
    let admission = &function.admission;
    let ticket = admission.slots.join_queue().map_err(full)?;
    let ahead = ticket.ahead;
    if admission.queue_delay.expected(ahead) > function.limits().queue_wait {
        return Err(InvokeError::Concurrency);
    }
    let _waiting = GaugeGuard::new(&function.statistics.metrics.waiting_invocations);
    let since = Instant::now();
    let slot = Slot::wait(function, ticket).await;
    let waited = since.elapsed();
    admission.queue_delay.note(ahead, waited);
    start.phases.add(Phase::Queue, waited);
    slot.map_err(full)
}

/// Whether the guest must wait until a processor is free. Guests that begin in the background runtime
/// need not: its threads yield to all others.
fn must_queue(function: &Function, now: Instant) -> bool {
    function.admission.run_queue.is_busy(now)
        && !function.admission.background.starts_in_background()
        && !function.admission.run_queue.try_enter()
}

/// Waits in the run queue until a processor is free.
async fn wait_in_run_queue(function: &Function, start: &mut Start) {
    let since = Instant::now();
    function.admission.run_queue.wait().await;
    start.phases.add(Phase::Queue, since.elapsed());
}

fn full(reason: NoSlot) -> InvokeError {
    match reason {
        NoSlot::Function => InvokeError::Concurrency,
        NoSlot::Node => InvokeError::Queue,
    }
}
