//! The instance that an invocation runs in.

use std::{sync::Arc, time::Instant};

use crate::{
    Function, InvokeError,
    host::{instance::Instance, invocation_state::InvocationState},
};

/// Takes a warm instance, or makes one.
pub(super) async fn take_or_make(
    function: &Function,
    state: &Arc<InvocationState>,
    invocation: u128,
) -> Result<Instance, InvokeError> {
    if let Some(mut instance) = function.warm.take() {
        instance.begin_invocation(Arc::clone(state), invocation, function.limits().log_bytes);
        return Ok(instance);
    }
    let since = Instant::now();
    let template = &function.template;
    let instance = match template.instantiate(state, invocation).await {
        // The node is full. Warm instances, of whichever function, are worth less than the one that
        // this call needs.
        Err(InvokeError::Instances | InvokeError::NodeMemory)
            if function.warm.budget().release_all() =>
        {
            template.instantiate(state, invocation).await
        }
        made => made,
    }?;
    state.note_instantiation(since);
    Ok(instance)
}
