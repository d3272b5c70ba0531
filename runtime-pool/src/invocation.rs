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
    executor::request::FunctionCall,
    host::invocation_state::InvocationState,
    invocation::{guard::InvocationGuard, respond::GuestRun, response_body::Response},
    metrics::start::Start,
};

impl Function {
    /// Calls the function once. `start` says how the function became resident and how long that
    /// took. `now` may be a moment ago.
    pub async fn invoke(
        self: &Arc<Self>,
        call: Box<FunctionCall>,
        start: Start,
        now: Instant,
    ) -> Result<(Response, Start), InvokeError> {
        let invocation = call.context.invocation;
        let result = admit_and_run(self, call, start, now).await;
        account::account(self, invocation, &result);
        result
    }
}

async fn admit_and_run(
    function: &Arc<Function>,
    call: Box<FunctionCall>,
    mut start: Start,
    now: Instant,
) -> Result<(Response, Start), InvokeError> {
    let (invocation, timeout) = (call.context.invocation, call.context.timeout);
    let (slot, since) = admit::admit(function, &mut start, now).await?;
    let state = Arc::new(InvocationState::default());
    let guard = InvocationGuard::new(slot, invocation, Arc::clone(&state));
    let (sender, head) = oneshot::channel();
    let is_head = call.head.method == http::Method::HEAD;
    let guest = Box::pin(run::run(Arc::clone(function), call, sender, state));
    let mut run = GuestRun::new(guest, head, is_head, guard, invocation, start, since);
    run.limit_to(timeout);
    let background = &function.admission.background;
    if background.starts_in_background() {
        return background.run_boxed(Box::pin(run.into_response()), None).await;
    }
    match run.begin().await? {
        Some(head) => {
            let collected = run.collect(head).await?;
            Ok(run.finish(collected))
        }
        None => {
            let begun = run.longest_poll();
            background.run_boxed(Box::pin(run.into_response()), Some(begun)).await
        }
    }
}
