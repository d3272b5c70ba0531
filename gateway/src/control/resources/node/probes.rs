//! The state of the gateway, and the API's description.

use std::sync::{Arc, OnceLock};

use axum::{extract::State, response::IntoResponse};
use http::{StatusCode, header};
use prometheus::{Registry, TextEncoder};
use tokio::sync::watch;

use crate::problem::Problem;

/// The routes that need no token, because probes have none.
pub(crate) const PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// The state that probes read.
#[derive(Clone)]
pub(crate) struct Probes {
    registry: Registry,
    /// Whether the gateway takes requests.
    ready: watch::Receiver<bool>,
    /// The API's description, which is made of all routes.
    document: Arc<OnceLock<String>>,
    open_metrics: bool,
}

impl Probes {
    pub(crate) fn new(
        registry: Registry,
        ready: watch::Receiver<bool>,
        open_metrics: bool,
    ) -> Self {
        Self { registry, ready, document: Arc::default(), open_metrics }
    }

    /// Whether the metrics and the API's description need no token.
    pub(crate) fn are_open(&self) -> bool {
        self.open_metrics
    }

    /// The registry for metrics of the control plane.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Sets the API's description. To be called once.
    pub(crate) fn describe(&self, api: &utoipa::openapi::OpenApi) {
        let _ = self.document.set(api.to_pretty_json().unwrap_or_default());
    }
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

/// Shows this description of the API.
#[utoipa::path(
    get, path = "/openapi.json", tag = "probes",
    operation_id = "describeApi",
    responses((status = 200, description = "An OpenAPI document", body = Object, content_type = "application/json")),
)]
pub(crate) async fn openapi(State(probes): State<Probes>) -> impl IntoResponse {
    let document = probes.document.get().cloned().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], document)
}
