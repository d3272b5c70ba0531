//! One call of a resident function.
//!
//! Read from the top: `admit` takes a slot and waits where it must, `instance` takes a warm
//! instance or makes one, `run` gives it the request, `respond` turns what the guest writes into
//! a response, and `account` counts how the call ended.
//!
//! The guest runs in the caller's task. Most guests finish in their first poll, and then the call
//! has needed no task and no timer. A guest that continues after the head of its response gets a
//! task of its own (`response_task`), which ends with the guest, at its deadline, or when the
//! client leaves.

mod account;
mod admit;
mod checked_body;
mod guard;
mod inline_body;
mod instance;
mod progress_waker;
mod respond;
pub(crate) mod response_body;
mod response_pipe;
mod response_task;
mod run;

use std::{sync::Arc, time::Instant};

use tokio::sync::oneshot;

use crate::{
    Function, InvokeError,
    executor::request::{InvocationContext, InvocationRequest},
    host::invocation_state::InvocationState,
    invocation::{guard::InvocationGuard, respond::GuestRun, response_body::Response},
    metrics::start::Start,
};

impl Function {
    /// Calls the function once. `start` says how the function became resident and how long that
    /// took. `now` may be a moment ago.
    pub async fn invoke(
        self: &Arc<Self>,
        request: InvocationRequest,
        context: InvocationContext,
        start: Start,
        now: Instant,
    ) -> Result<(Response, Start), InvokeError> {
        let invocation = context.invocation;
        let result = admit_and_run(self, request, context, start, now).await;
        account::account(self, invocation, &result);
        result
    }
}

async fn admit_and_run(
    function: &Arc<Function>,
    request: InvocationRequest,
    context: InvocationContext,
    mut start: Start,
    now: Instant,
) -> Result<(Response, Start), InvokeError> {
    let invocation = context.invocation;
    let slot = admit::admit(function, &mut start, now).await?;
    let state = Arc::new(InvocationState::default());
    let guard = InvocationGuard::new(slot, invocation, Arc::clone(&state));
    let (sender, head) = oneshot::channel();
    let is_head = request.method() == http::Method::HEAD;
    let guest = Box::pin(run::run(Arc::clone(function), request, context, sender, state));
    let responding = Arc::clone(function);
    let response = async move {
        let run = GuestRun::new(guest, guard, &responding, invocation, start.loading());
        respond::run_to_response(run, head, is_head, start).await
    };
    function.admission.background.run(response).await
}
