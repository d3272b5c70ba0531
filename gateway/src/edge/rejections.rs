//! Responses to requests that were rejected or failed.

use http::Response;
use prometheus::{IntCounterVec, Opts, Registry};

use crate::{
    edge::response_body::EdgeBody,
    problem::{Problem, REQUEST_ID},
    telemetry::request_id::id_header,
};

/// Answers the requests that were rejected or failed, and counts them.
#[derive(Debug)]
pub(crate) struct Rejections {
    problems: IntCounterVec,
}

impl Rejections {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let problems = IntCounterVec::new(
            Opts::new(
                "mayfly_problems_total",
                "Requests to functions that were rejected or failed, by type of problem",
            ),
            &["type"],
        )?;
        registry.register(Box::new(problems.clone()))?;
        Ok(Self { problems })
    }

    /// The response to a request that was rejected or failed.
    pub(crate) fn answer(&self, problem: Problem, invocation: u128) -> Response<EdgeBody> {
        self.problems.with_label_values(&[problem.slug()]).inc();
        let mut response: Response<EdgeBody> = problem.for_invocation(invocation).to_http();
        response.headers_mut().insert(REQUEST_ID, id_header(invocation));
        response
    }
}
