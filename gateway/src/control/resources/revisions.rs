//! `/v1/functions/{name}/revisions`: all deployments of a function.

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
};
use gateway_api::{FunctionView, RevisionsView};
use http::HeaderMap;

use crate::{
    control::{
        auth::tokens::Scope,
        extract::{IfMatch, NamePath, PathParams},
        page::{RevisionsPage, next_cursor},
        preconditions,
        resources::functions::{Shown, parse, shown},
        state::ControlState,
        views,
    },
    functions::deploy::upload::TokenId,
    problem::Problem,
};

/// Lists a function's revisions.
#[utoipa::path(
    get, path = "/v1/functions/{name}/revisions", tag = "functions",
    operation_id = "listRevisions",
    params(NamePath, RevisionsPage),
    responses(
        (status = 200, description = "A page", body = RevisionsView),
        (status = 400, description = "The query cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    PathParams(name): PathParams<String>,
    page: Result<Query<RevisionsPage>, QueryRejection>,
) -> Result<Json<RevisionsView>, Problem> {
    let name = parse(&name)?;
    let Query(page) = page.map_err(|error| Problem::bad_query(error.body_text()))?;
    let active = state
        .store
        .function(&state.tenant, name.as_str())
        .await?
        .ok_or_else(|| Problem::function_not_found(name.as_str()))?
        .revision
        .number;
    let limit = page.limit();
    let found = state.store.revisions(&state.tenant, name.as_str(), page.cursor, limit).await?;
    let next_cursor = next_cursor(&found, limit, |revision| revision.number.to_string());
    let revisions = found.into_iter().map(|revision| views::revision(revision, active, scope));
    Ok(Json(RevisionsView { revisions: revisions.collect(), next_cursor }))
}

/// Makes an older revision the active one again.
#[utoipa::path(
    post, path = "/v1/functions/{name}/revisions/{revision}/activate", tag = "functions",
    operation_id = "activateRevision",
    params(
        NamePath,
        ("revision" = u64, Path, minimum = 0, maximum = 4_294_967_295_i64, description = "Its number"),
        IfMatch,
    ),
    responses(
        (status = 200, description = "The changed function", body = FunctionView),
        (status = 400, description = "The name or the revision is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function or revision", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The function does not meet the precondition", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn activate(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    PathParams((name, revision)): PathParams<(String, String)>,
    Extension(token): Extension<TokenId>,
    headers: HeaderMap,
) -> Result<Shown, Problem> {
    let name = parse(&name)?;
    let revision =
        revision.parse().map_err(|_| Problem::bad_query("a revision is a number".into()))?;
    let precondition = preconditions::parse(&headers);
    let function = state.qualified(name.clone());
    let activated = state.deployer.activate(&token, function, revision, precondition).await?;
    let Some(activated) = activated else {
        let exists = state.store.function(&state.tenant, name.as_str()).await?.is_some();
        return Err(match exists {
            true => Problem::revision_not_found(name.as_str(), revision),
            false => Problem::function_not_found(name.as_str()),
        });
    };
    Ok(shown(activated, &state, scope).await)
}
