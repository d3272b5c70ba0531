//! The life of a guest in one invocation.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    Function, InvokeError,
    executor::{
        self,
        request::{GuestEnd, InvocationContext, InvocationRequest, ResponseHead},
    },
    host::{
        guarded_call::guarded,
        invocation_state::{FailOnDrop, InvocationState},
    },
    invocation::instance::take_or_make,
    warm::reuse::Reusable,
};

/// Runs a guest to its end, and returns its instance if that may serve another call. Holds the function, so that its code outlives the instance.
pub(super) async fn run(
    function: Arc<Function>,
    request: InvocationRequest,
    context: InvocationContext,
    head: oneshot::Sender<ResponseHead>,
    state: Arc<InvocationState>,
) -> Result<Option<Reusable>, InvokeError> {
    // First: no instance waits for a client.
    let request = function.template.with_length(request).await?;
    let mut instance = take_or_make(&function, &state, &context).await?;
    if let Some(cdn_loop) = &context.cdn_loop {
        instance.set_cdn_loop(cdn_loop.clone());
    }
    // Declared after the instance, so that it is dropped before it: the end of the store looks like
    // the end of the body, and must not look like a good one.
    let fail_on_drop = FailOnDrop::new(&state.outcome);
    let call = executor::run(&mut instance, &function.template, request, &context, head);
    let end = guarded(call, &state, function.limits().cpu).await?;
    fail_on_drop.disarm();
    let returned = end == GuestEnd::Returned;
    Ok(returned.then(|| function.warm.reusable(instance)).flatten())
}
