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
        instance.begin(Arc::clone(state), invocation, function.limits().log_bytes);
        return Ok(instance);
    }
    let since = Instant::now();
    let template = &function.template;
    let instance = match template.instantiate(state, invocation).await {
        // Warm instances of any function are worth less than one that is needed now.
        Err(InvokeError::Instances | InvokeError::NodeMemory)
            if function.warm.budget().release() =>
        {
            template.instantiate(state, invocation).await
        }
        made => made,
    }?;
    state.instantiated(since);
    Ok(instance)
}
