//! `/v1/certificates`: certificates of owners' hosts.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use gateway_api::{CertificateView, CertificatesView, PutCertificate};
use http::StatusCode;
use serde::Deserialize;
use store::CertificateRecord;
use utoipa::IntoParams;

use crate::{
    control::{
        extract::{Document, NamePath, PathParams, deleted_or},
        page::{Page, next_cursor},
        state::ControlState,
    },
    functions::routes::certificates::SentCertificate,
    problem::Problem,
    telemetry::clock::rfc3339,
};

/// Whether a certificate that is in use is deleted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Force {
    /// Also while a route has one of its hosts.
    #[serde(default)]
    force: bool,
}

/// Stores a certificate, or replaces one.
///
/// The next handshake for one of its hosts gets it. Connections that are open stay.
#[utoipa::path(
    put, path = "/v1/certificates/{name}", tag = "certificates",
    operation_id = "putCertificate",
    params(NamePath),
    request_body = PutCertificate,
    responses(
        (status = 201, description = "A new certificate is stored", body = CertificateView),
        (status = 200, description = "The certificate was replaced", body = CertificateView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Another certificate is for one of its hosts, or a quota is used up", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The name, the chain or the key is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    Document(body): Document,
) -> Result<(StatusCode, Json<CertificateView>), Problem> {
    let sent: PutCertificate =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let PutCertificate { chain, key } = sent;
    let sent = SentCertificate { chain: &chain, key: key.into() };
    let max = state.deployer.certificates_max();
    // Boxed: the future is large, and certificates are rare.
    let put = Box::pin(state.certificates.put(state.tenant.clone(), name, sent, max));
    let (record, is_new) = put.await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(shown(record))))
}

/// Lists certificates, without their keys.
#[utoipa::path(
    get, path = "/v1/certificates", tag = "certificates",
    operation_id = "listCertificates",
    params(Page),
    responses(
        (status = 200, description = "A page", body = CertificatesView),
        (status = 400, description = "The query cannot be read", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<CertificatesView>, Problem> {
    let Query(page) = page.map_err(|error| Problem::bad_query(error.body_text()))?;
    let limit = page.limit();
    let found = state.certificates.list(&state.tenant, page.cursor.as_deref(), limit).await?;
    let next_cursor = next_cursor(&found, limit, |record| record.name.clone());
    let certificates = found.into_iter().map(shown).collect();
    Ok(Json(CertificatesView { certificates, next_cursor }))
}

/// Shows a certificate, without its key.
#[utoipa::path(
    get, path = "/v1/certificates/{name}", tag = "certificates",
    operation_id = "showCertificate",
    params(NamePath),
    responses(
        (status = 200, description = "The certificate", body = CertificateView),
        (status = 404, description = "There is no such certificate", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
) -> Result<Json<CertificateView>, Problem> {
    let found = state.certificates.get(&state.tenant, &name).await?;
    found.map(|record| Json(shown(record))).ok_or_else(|| Problem::certificate_not_found(&name))
}

/// Deletes a certificate. Handshakes for its hosts then get the listener's own.
#[utoipa::path(
    delete, path = "/v1/certificates/{name}", tag = "certificates",
    operation_id = "deleteCertificate",
    params(NamePath, Force),
    responses(
        (status = 204, description = "The certificate was deleted"),
        (status = 400, description = "The query cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such certificate", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A route has one of its hosts", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    force: Result<Query<Force>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Query(Force { force }) = force.map_err(|error| Problem::bad_query(error.body_text()))?;
    let routes = if force { Vec::new() } else { state.routes.hosts(&state.tenant).await };
    let deleted = state.certificates.delete(state.tenant.clone(), name.clone(), routes).await?;
    deleted_or(deleted, || Problem::certificate_not_found(&name))
}

fn shown(record: CertificateRecord) -> CertificateView {
    CertificateView {
        name: record.name,
        hosts: record.hosts,
        fingerprint: record.fingerprint,
        not_before: rfc3339(record.not_before_ms),
        not_after: rfc3339(record.not_after_ms),
        created_at: rfc3339(record.created_ms),
        updated_at: rfc3339(record.updated_ms),
    }
}
