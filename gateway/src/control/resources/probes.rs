//! How the gateway is. These need no token: probes and scrapers have none.

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{StatusCode, header};
use prometheus::{Registry, TextEncoder};
use tokio::sync::watch;
use utoipa::openapi::OpenApi;

use crate::problem::Problem;

/// What probes look at.
#[derive(Clone)]
pub(crate) struct Probes {
    pub(crate) registry: Registry,
    /// Whether requests should be sent here.
    pub(crate) ready: watch::Receiver<bool>,
}

/// Whether the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "probes",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")),
)]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests should be sent here.
#[utoipa::path(
    get, path = "/readyz", tag = "probes",
    responses(
        (status = 200, description = "They should", body = String, content_type = "text/plain"),
        (status = 503, description = "Not yet, or no more", body = String, content_type = "text/plain"),
    ),
)]
pub(crate) async fn readyz(State(probes): State<Probes>) -> (StatusCode, &'static str) {
    if *probes.ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Metrics in Prometheus' text format.
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

/// The document that describes all the others.
pub(crate) fn openapi(api: &OpenApi) -> Router {
    let document = api.to_pretty_json().unwrap_or_default();
    let json = [(header::CONTENT_TYPE, "application/json")];
    Router::new().route("/openapi.json", get(async move || (json, document.clone())))
}
