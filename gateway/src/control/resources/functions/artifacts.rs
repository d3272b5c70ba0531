//! `/v1/artifacts/{digest}`: wasm binaries that manifests name.

use axum::{
    Extension, Json,
    extract::{Request, State},
};
use gateway_api::ArtifactView;
use http::StatusCode;

use crate::{
    control::{
        extract::{Binary, DigestPath, PathParams, digest},
        state::ControlState,
        upload,
    },
    functions::deploy::upload::Actor,
    problem::Problem,
    request::limited_body::declared_length,
};

/// Stores an artifact.
///
/// The body is the wasm binary with this digest. A manifest can then name it. An artifact that no function
/// runs is removed after about a day.
#[utoipa::path(
    put, path = "/v1/artifacts/{digest}", tag = "functions",
    operation_id = "putArtifact",
    params(DigestPath),
    request_body(content = Binary, content_type = "application/wasm"),
    responses(
        (status = 201, description = "The artifact is stored", body = ArtifactView),
        (status = 200, description = "The artifact was stored already", body = ArtifactView),
        (status = 400, description = "The digest is not valid, or the body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A quota is used up", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The artifact is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not sent as wasm", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The body has another digest", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many changes within a minute", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(state): State<ControlState>,
    PathParams(named): PathParams<String>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<(StatusCode, Json<ArtifactView>), Problem> {
    let stored = async {
        let digest = digest(&named)?;
        upload::check_encoding(request.headers())?;
        let length = declared_length(request.headers());
        let body = request.into_body().into_data_stream();
        let put = state.deployer.put_artifact((&state.tenant, &actor), digest, length, body);
        // Boxed: the future is large, and uploads are rare.
        let is_new = Box::pin(put).await?;
        let bytes = state.store.own_artifact(&state.tenant, &digest).await?;
        let bytes = bytes.ok_or_else(|| Problem::artifact_not_found(&digest))?;
        let view = ArtifactView { digest: format!("sha256:{digest}"), bytes };
        Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(view)))
    };
    stored.await.inspect_err(|problem: &Problem| state.deployer.count_refused(problem.slug()))
}

/// Shows an artifact that a manifest may name.
///
/// `HEAD` says the same by its status.
#[utoipa::path(
    get, path = "/v1/artifacts/{digest}", tag = "functions",
    operation_id = "showArtifact",
    params(DigestPath),
    responses(
        (status = 200, description = "It is stored", body = ArtifactView),
        (status = 400, description = "The digest is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "It is not stored, or is damaged", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    PathParams(named): PathParams<String>,
) -> Result<Json<ArtifactView>, Problem> {
    let digest = digest(&named)?;
    let bytes = state.deployer.artifact(&state.tenant, &digest).await?;
    let bytes = bytes.ok_or_else(|| Problem::artifact_not_found(&digest))?;
    Ok(Json(ArtifactView { digest: format!("sha256:{digest}"), bytes }))
}
