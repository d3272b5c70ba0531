//! `/v1/tokens`: who may use the control plane.

use axum::{Json, extract::State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::now_ms,
    control::{
        auth::tokens::{self, Scope},
        extract::{Document, Path},
        state::ControlState,
        views::{gone, rfc3339},
    },
    problem::Problem,
};

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateToken {
    /// For people, to tell tokens apart.
    #[schema(example = "ci")]
    name: String,
    /// `read`, `deploy` or `admin`; `deploy` unless said.
    #[schema(example = json!(["deploy"]))]
    scopes: Option<Vec<String>>,
    /// Seconds until it expires; never unless said.
    expires_in_s: Option<u32>,
}

/// A token that was just made. Its text is shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct FreshTokenView {
    /// What to send.
    #[schema(example = "mfy_0123456789abcdef_…")]
    token: String,
    #[serde(flatten)]
    row: TokenView,
}

/// What is known of a token.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenView {
    /// Names it, without giving it away.
    id: String,
    /// For people.
    name: String,
    /// What it may do.
    scopes: Vec<String>,
    /// When it was made (RFC 3339).
    created_at: String,
    /// When it expires; null for never.
    expires_at: Option<String>,
    /// When it was revoked; null if it was not.
    revoked_at: Option<String>,
}

/// Every token that was ever made.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokensView {
    tokens: Vec<TokenView>,
}

/// Makes a token.
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
    let asked: CreateToken =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let scopes = asked.scopes.unwrap_or_else(|| vec![Scope::Deploy.as_str().to_owned()]);
    let scopes = scopes
        .iter()
        .map(|scope| Scope::parse(scope).ok_or_else(|| Problem::unknown_scope(scope)))
        .collect::<Result<Vec<_>, _>>()?;
    let expires_ms = asked.expires_in_s.map(|seconds| now_ms() + i64::from(seconds) * 1_000);
    let fresh = tokens::create(&state.tenant, &asked.name, &scopes, expires_ms)
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

/// Lists tokens, without their secrets.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens",
    operation_id = "listTokens",
    responses(
        (status = 200, description = "All tokens", body = TokensView),
    ),
)]
pub(crate) async fn list(State(state): State<ControlState>) -> Result<Json<TokensView>, Problem> {
    let tokens = state.store.tokens(&state.tenant).await?.into_iter().map(|token| TokenView {
        id: token.id,
        name: token.name,
        scopes: token.scopes,
        created_at: rfc3339(token.created_ms),
        expires_at: token.expires_ms.map(rfc3339),
        revoked_at: token.revoked_ms.map(rfc3339),
    });
    Ok(Json(TokensView { tokens: tokens.collect() }))
}

/// Revokes a token. It stops working at once.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens",
    operation_id = "revokeToken",
    params(("id" = String, Path)),
    responses(
        (status = 204, description = "It works no more"),
        (status = 404, description = "There is no such token", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn revoke(
    State(state): State<ControlState>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    gone(state.store.revoke_token(&state.tenant, &id, now_ms()).await?, || {
        Problem::token_not_found(&id)
    })
}
