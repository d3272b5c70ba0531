//! How an invocation ended: for its owner, for the operator, and for the warm set.

use std::sync::Arc;

use crate::{
    Fault, Function, InvokeError, invocation::response_body::Response, metrics::start::Start,
};

/// Counts the result up to the head of the response. What comes after it has its own reports.
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
            // A full node is not the function's doing, and many callers would fill its log.
            if error.fault() == Fault::Function {
                function.template.log().system(invocation, &error.to_string());
            }
        }
    }
}
