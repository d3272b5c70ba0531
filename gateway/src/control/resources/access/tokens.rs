//! `/v1/tokens`: access to the control plane.

use axum::{Json, extract::State};
use gateway_api::{CreateToken, FreshTokenView, TokenView, TokensView};
use http::StatusCode;

use crate::{
    control::{
        auth::tokens::{self, Scope},
        extract::{Document, PathParams, deleted_or},
        state::ControlState,
        views,
    },
    problem::Problem,
    telemetry::clock::{now_ms, rfc3339},
};

/// Creates a token.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens",
    operation_id = "createToken",
    request_body = CreateToken,
    responses(
        (status = 201, description = "The token", body = FreshTokenView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create(
    State(state): State<ControlState>,
    Document(body): Document,
) -> Result<(StatusCode, Json<FreshTokenView>), Problem> {
    let new: CreateToken =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let scopes = new.scopes.unwrap_or_else(|| vec![Scope::Deploy.as_str().to_owned()]);
    let scopes = scopes
        .iter()
        .map(|scope| Scope::parse(scope).ok_or_else(|| Problem::unknown_scope(scope)))
        .collect::<Result<Vec<_>, _>>()?;
    let expires_ms = new.expires_in_s.map(|seconds| now_ms() + i64::from(seconds) * 1_000);
    let fresh = tokens::create(&state.tenant, &new.name, &scopes, expires_ms)
        .map_err(|error| Problem::internal(&error))?;
    let row = TokenView {
        id: fresh.row.id.clone(),
        name: fresh.row.name.clone(),
        scopes: fresh.row.scopes.clone(),
        created_at: rfc3339(fresh.row.created_ms),
        expires_at: fresh.row.expires_ms.map(rfc3339),
        revoked_at: None,
    };
    state.store.add_token(fresh.row).await?;
    Ok((StatusCode::CREATED, Json(FreshTokenView { token: fresh.text, row })))
}

/// Lists tokens, without their texts.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens",
    operation_id = "listTokens",
    responses(
        (status = 200, description = "All tokens", body = TokensView),
    ),
)]
pub(crate) async fn list(State(state): State<ControlState>) -> Result<Json<TokensView>, Problem> {
    let tokens = state.store.tokens(&state.tenant).await?.into_iter().map(views::token);
    Ok(Json(TokensView { tokens: tokens.collect() }))
}

/// Revokes a token. It stops working at once.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens",
    operation_id = "revokeToken",
    params(("id" = String, Path)),
    responses(
        (status = 204, description = "The token was revoked"),
        (status = 404, description = "There is no such token", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn revoke(
    State(state): State<ControlState>,
    PathParams(id): PathParams<String>,
) -> Result<StatusCode, Problem> {
    deleted_or(state.store.revoke_token(&state.tenant, &id, now_ms()).await?, || {
        Problem::token_not_found(&id)
    })
}
