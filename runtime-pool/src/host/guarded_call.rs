//! Ends a call between two polls of its guest, where the engine does not: the guest may not come back
//! from the host for long, or it may only wait.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use crate::{error::InvokeError, host::invocation_state::InvocationState};

/// Runs `call` until it ends, has used up `cpu`, or the node ends it because the host keeps much for
/// it.
pub(crate) async fn guarded<T>(
    mut call: Pin<&mut impl Future<Output = Result<T, InvokeError>>>,
    state: &InvocationState,
    cpu: Duration,
) -> Result<T, InvokeError> {
    poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Pending if state.meter.used() > cpu => Poll::Ready(Err(InvokeError::Cpu(cpu))),
        Poll::Pending => state.poll_ended(cx).map(|()| Err(InvokeError::NodeMemory)),
        ended @ Poll::Ready(_) => ended,
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Arc, time::Instant};

    use super::*;
    use crate::{host::invocation_state::MeteredGuest, limits::holders::Holders};

    #[tokio::test]
    async fn a_call_that_stays_in_the_host_ends_at_its_cpu_limit() {
        let cpu = Duration::from_millis(50);
        let state = Arc::new(InvocationState::default());
        let inner = Arc::clone(&state);
        let call = async move {
            let busy = async {
                loop {
                    let since = Instant::now();
                    while since.elapsed() < Duration::from_millis(2) {}
                    tokio::task::yield_now().await;
                }
            };
            guarded::<()>(pin!(busy), &inner, cpu).await
        };
        let ended = MeteredGuest::new(Box::pin(call), Arc::clone(&state)).await;
        assert!(matches!(ended, Err(InvokeError::Cpu(_))), "{ended:?}");
        assert!(state.meter.used() < 10 * cpu, "{:?}", state.meter.used());
    }

    #[tokio::test]
    async fn a_call_that_waits_ends_when_the_node_needs_what_the_host_keeps_for_it() {
        let (holders, state) = (Holders::default(), InvocationState::default());
        let holder = holders.join();
        holder.set(1);
        state.set_holder(&holder);
        let pending = pin!(std::future::pending());
        let call = guarded::<()>(pending, &state, Duration::MAX);
        let (ended, freed) = tokio::join!(call, async { holders.end_largest(1) });
        assert!(matches!(ended, Err(InvokeError::NodeMemory)), "{ended:?}");
        assert_eq!(freed, (1, 1));
    }
}
