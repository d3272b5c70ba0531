//! The request id and the log line of each request to the control plane.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::HeaderValue;
use prometheus::IntCounterVec;

use crate::{
    problem::{Problem, REQUEST_ID},
    request::limited_body::{BodyFault, BodyFaults},
    server::Peer,
};

/// Adds a request id to the answer, to a problem's body and to the log, and counts problems. A
/// request that was refused before routing is answered here.
pub(crate) async fn name(
    State(problems): State<IntCounterVec>,
    request: Request,
    next: Next,
) -> Response {
    let id = random_id();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let local_user = request.extensions().get::<Peer>().and_then(|peer| peer.local_user);
    let faults = request.extensions().get::<BodyFaults>().cloned();
    let response = match request.extensions().get::<Problem>() {
        Some(refused) => refused.clone().into_response(),
        None => next.run(request).await,
    };
    let response = match faults.and_then(|faults| faults.first()) {
        Some(fault @ BodyFault::TooSlow(_)) => Problem::from(fault).into_response(),
        // The handlers answer these with problems of their own.
        Some(BodyFault::TooLarge(_) | BodyFault::Broken) | None => response,
    };
    let status = response.status().as_u16();
    tracing::info!(request = id, %method, path, status, local_user, "control");
    let mut response = match response.extensions().get::<Problem>().cloned() {
        Some(problem) => {
            problems.with_label_values(&[problem.slug()]).inc();
            problem.for_request(id.clone()).into_response()
        }
        None => response,
    };
    // Always succeeds: hexadecimal digits are valid in a header.
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

fn random_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness the id is not unique; the request is answered all the same.
    let _ = getrandom::fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}
