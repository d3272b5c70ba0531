//! The life of a guest in one invocation.

use std::{pin::pin, sync::Arc};

use tokio::sync::oneshot;

use crate::{
    Function, InvokeError,
    executor::{
        self,
        request::{FunctionCall, GuestEnd, ResponseHead},
    },
    host::{
        guarded_call::guarded,
        invocation_state::{FailOnDrop, InvocationState},
    },
    invocation::instance::take_or_make,
    outbound::RequestOrigin,
    warm::reuse::Reusable,
};

/// Runs a guest to its end, and returns its instance if that may serve another call. Holds the function, so that its code outlives the instance.
pub(super) async fn run(
    function: Arc<Function>,
    mut call: Box<FunctionCall>,
    head: oneshot::Sender<ResponseHead>,
    state: Arc<InvocationState>,
) -> Result<Option<Reusable>, InvokeError> {
    // First: no instance waits for a client.
    function.template.know_length(&mut call).await?;
    let mut instance = take_or_make(&function, &state, &call.context).await?;
    let (cdn_loop, others) = (call.context.cdn_loop.take(), call.context.others);
    if cdn_loop.is_some() || others > 0 {
        instance.set_origin(RequestOrigin { cdn_loop, others });
    }
    // Declared after the instance, so that it is dropped before it: the end of the store looks like
    // the end of the body, and must not look like a good one.
    let fail_on_drop = FailOnDrop::new(&state.outcome);
    let end = {
        let call = pin!(executor::run(&mut instance, &function.template, call, head));
        guarded(call, &state, function.limits().cpu).await?
    };
    fail_on_drop.disarm();
    let returned = end == GuestEnd::Returned;
    Ok(returned.then(|| function.warm.reusable(instance)).flatten())
}
