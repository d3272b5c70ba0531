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

/// Takes a slot, and waits in the run queue while the processors are busy.
pub(super) async fn admit(
    function: &Arc<Function>,
    start: &mut Start,
    now: Instant,
) -> Result<Slot, InvokeError> {
    let slot = take_slot(function, start).await?;
    wait_in_run_queue(function, start, now).await;
    Ok(slot)
}

/// Takes a slot at once, or after a wait in the bounded queue.
async fn take_slot(function: &Arc<Function>, start: &mut Start) -> Result<Slot, InvokeError> {
    if let Some(slot) = Slot::try_take(function) {
        return Ok(slot);
    }
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

/// Waits in the run queue while the processors are busy. Guests that begin in the background runtime
/// need not: its threads yield to all others.
async fn wait_in_run_queue(function: &Function, start: &mut Start, now: Instant) {
    let run_queue = &function.admission.run_queue;
    if run_queue.is_busy(now)
        && !function.admission.background.starts_in_background()
        && !run_queue.try_enter()
    {
        let since = Instant::now();
        run_queue.wait().await;
        start.phases.add(Phase::Queue, since.elapsed());
    }
}

fn full(reason: NoSlot) -> InvokeError {
    match reason {
        NoSlot::Function => InvokeError::Concurrency,
        NoSlot::Node => InvokeError::Queue,
    }
}
