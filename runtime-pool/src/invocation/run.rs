//! The guest's whole life in one invocation.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    Function, InvokeError,
    executor::{
        self,
        request::{Head, InvocationContext, Request},
    },
    host::invocation_state::{FailOnDrop, InvocationState},
    invocation::instance::take_or_make,
};

/// Runs a guest to its end. Holds the function, so that its code outlives the instance.
pub(super) async fn run(
    function: Arc<Function>,
    request: Request,
    context: InvocationContext,
    head: oneshot::Sender<Head>,
    state: Arc<InvocationState>,
) -> Result<(), InvokeError> {
    let mut instance = take_or_make(&function, &state, context.invocation).await?;
    if let Some(trail) = &context.trail {
        instance.set_trail(trail.clone());
    }
    // Declared after the instance, so that it is dropped before it.
    let outcome = FailOnDrop::new(&state.outcome);
    executor::run(&mut instance, &function.template, request, &context, head).await?;
    outcome.done();
    function.warm.keep(instance);
    Ok(())
}
