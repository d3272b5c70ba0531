//! `/v1/secrets`: values that the gateway adds to requests of functions.

use axum::{Json, extract::State};
use gateway_api::{PutSecret, SecretView, SecretsView};
use http::StatusCode;

use crate::{
    control::{
        extract::{Document, NamePath, PathParams, deleted_or},
        state::ControlState,
        views,
    },
    problem::Problem,
};

/// Stores a secret, or replaces one.
///
/// The next request of every function has the new value.
#[utoipa::path(
    put, path = "/v1/secrets/{name}", tag = "secrets",
    operation_id = "putSecret",
    params(NamePath),
    request_body = PutSecret,
    responses(
        (status = 201, description = "A new secret is stored", body = SecretView),
        (status = 200, description = "The secret was replaced", body = SecretView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The name, the value, a host or a function is not valid, or no host is named", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    Document(body): Document,
) -> Result<(StatusCode, Json<SecretView>), Problem> {
    let secret: PutSecret =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let (secret, is_new) = state.secrets.put(state.tenant.clone(), &name, secret).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(views::secret(secret))))
}

/// Lists secrets, without their values.
#[utoipa::path(
    get, path = "/v1/secrets", tag = "secrets",
    operation_id = "listSecrets",
    responses(
        (status = 200, description = "All secrets", body = SecretsView),
    ),
)]
pub(crate) async fn list(State(state): State<ControlState>) -> Result<Json<SecretsView>, Problem> {
    let secrets = state.secrets.list(&state.tenant).await?.into_iter().map(views::secret);
    Ok(Json(SecretsView { secrets: secrets.collect() }))
}

/// Deletes a secret. Requests that need it fail from here on.
#[utoipa::path(
    delete, path = "/v1/secrets/{name}", tag = "secrets",
    operation_id = "deleteSecret",
    params(NamePath),
    responses(
        (status = 204, description = "The secret was deleted"),
        (status = 404, description = "There is no such secret", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
) -> Result<StatusCode, Problem> {
    deleted_or(state.secrets.delete(state.tenant.clone(), &name).await?, || {
        Problem::secret_not_found(&name)
    })
}
