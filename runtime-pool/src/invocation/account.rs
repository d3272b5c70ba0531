//! Accounting: what an invocation means for metrics, for the log of its function and for its warm set.

use std::sync::Arc;

use crate::{
    Fault, Function, InvokeError, invocation::response_body::Response, metrics::start::Start,
};

/// Counts the result up to the head of the response. `response_task` reports what comes after it.
pub(super) fn account(
    function: &Arc<Function>,
    invocation: u128,
    result: &Result<(Response, Start), InvokeError>,
) {
    match result {
        Ok((_, start)) => function.warm.note_demand(start, || function.running_invocations()),
        Err(error) => {
            if let Some(limit) = error.limit() {
                function.statistics.metrics.limit_ended(limit);
            }
            // Where the node is at fault the owner can do nothing, and many calls would fill the log.
            if error.fault() == Fault::Function {
                function.template.log().system(invocation, &error.to_string());
            }
        }
    }
}
