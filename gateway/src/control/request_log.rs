//! A name for every answer of the control plane.

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
};

/// Names the request in its answer, in a problem's body too, and in the log; counts problems. One
/// that was refused before it was looked at gets no further.
pub(crate) async fn name(
    State(problems): State<IntCounterVec>,
    request: Request,
    next: Next,
) -> Response {
    let id = random_id();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let troubles = request.extensions().get::<BodyFaults>().cloned();
    let response = match request.extensions().get::<Problem>() {
        Some(refused) => refused.clone().into_response(),
        None => next.run(request).await,
    };
    let response = match troubles.and_then(|troubles| troubles.first()) {
        Some(trouble @ BodyFault::TooSlow(_)) => Problem::from(trouble).into_response(),
        // The routes have words of their own for these.
        Some(BodyFault::TooLarge(_) | BodyFault::Broken) | None => response,
    };
    tracing::info!(request = id, %method, path, status = response.status().as_u16(), "control");
    let mut response = match response.extensions().get::<Problem>().cloned() {
        Some(problem) => {
            problems.with_label_values(&[problem.slug()]).inc();
            problem.for_request(id.clone()).into_response()
        }
        None => response,
    };
    // Hexadecimal digits are always a header's value.
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

fn random_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness the name is not unique, which is no reason to refuse a request.
    let _ = getrandom::fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}
