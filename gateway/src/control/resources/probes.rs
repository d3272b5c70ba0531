//! The state of the gateway. These routes need no token: probes and scrapers have none.

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{StatusCode, header};
use prometheus::{Registry, TextEncoder};
use tokio::sync::watch;
use utoipa::openapi::OpenApi;

use crate::problem::Problem;

/// The state that probes read.
#[derive(Clone)]
pub(crate) struct Probes {
    pub(crate) registry: Registry,
    /// Whether the gateway takes requests.
    pub(crate) ready: watch::Receiver<bool>,
}

/// Tells whether the process is alive.
#[utoipa::path(
    get, path = "/healthz", tag = "probes",
    responses((status = 200, description = "It is alive", body = String, content_type = "text/plain")),
)]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tells whether the gateway takes requests.
#[utoipa::path(
    get, path = "/readyz", tag = "probes",
    responses(
        (status = 200, description = "It takes requests", body = String, content_type = "text/plain"),
        (status = 503, description = "It is starting or draining", body = String, content_type = "text/plain"),
    ),
)]
pub(crate) async fn readyz(State(probes): State<Probes>) -> (StatusCode, &'static str) {
    if *probes.ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Shows the metrics, in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "probes",
    responses((status = 200, description = "All metrics", body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(State(probes): State<Probes>) -> Result<impl IntoResponse, Problem> {
    let text = TextEncoder::new()
        .encode_to_string(&probes.registry.gather())
        .map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}

/// The API's description.
pub(crate) fn openapi(api: &OpenApi) -> Router {
    let document = api.to_pretty_json().unwrap_or_default();
    let json = [(header::CONTENT_TYPE, "application/json")];
    Router::new().route("/openapi.json", get(async move || (json, document.clone())))
}
