//! The instance that an invocation runs in.

use std::{sync::Arc, time::Instant};

use crate::{
    Function, InvokeError,
    executor::request::InvocationContext,
    host::{instance::Instance, invocation_state::InvocationState},
};

/// Takes a warm instance, or makes one.
pub(super) async fn take_or_make(
    function: &Function,
    state: &Arc<InvocationState>,
    context: &InvocationContext,
) -> Result<Instance, InvokeError> {
    let invocation = context.invocation;
    if let Some(mut instance) = function.warm.take() {
        instance.begin_invocation(Arc::clone(state), invocation, function.limits().log_bytes);
        return Ok(instance);
    }
    let since = Instant::now();
    let instance = match make(function, state, context).await {
        // The node is full. Warm instances, of whichever function, are worth less than the one that
        // this call needs.
        Err(InvokeError::Instances | InvokeError::NodeMemory)
            if function.warm.budget().release_all() =>
        {
            make(function, state, context).await
        }
        made => made,
    }?;
    state.note_instantiation(since);
    Ok(instance)
}

/// Makes an instance, unless the last ones are reserved for others.
async fn make(
    function: &Function,
    state: &Arc<InvocationState>,
    context: &InvocationContext,
) -> Result<Instance, InvokeError> {
    if let Some(reserve) = &function.admission.reserve {
        // Without this call, which has its slot already.
        let running = function.running_invocations().saturating_sub(1);
        if !reserve.admits(running.max(context.others)) {
            return Err(InvokeError::Instances);
        }
    }
    function.template.instantiate(state, context.invocation).await
}
