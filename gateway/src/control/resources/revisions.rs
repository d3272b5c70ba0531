//! `/v1/functions/{name}/revisions`: all deployments of a function, and how it went from one to the
//! other.

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
};
use gateway_api::{FunctionView, HistoryView, RevisionsView};
use http::HeaderMap;

use crate::{
    control::{
        auth::tokens::Scope,
        extract::{IfMatch, NamePath, PathParams},
        page::{NumbersPage, next_cursor},
        preconditions,
        resources::functions::{Shown, parse, shown},
        state::ControlState,
        views,
    },
    functions::deploy::upload::Actor,
    problem::Problem,
};

/// Lists a function's revisions.
#[utoipa::path(
    get, path = "/v1/functions/{name}/revisions", tag = "functions",
    operation_id = "listRevisions",
    params(NamePath, NumbersPage),
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
    page: Result<Query<NumbersPage>, QueryRejection>,
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
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
) -> Result<Shown, Problem> {
    let name = parse(&name)?;
    let revision =
        revision.parse().map_err(|_| Problem::bad_query("a revision is a number".into()))?;
    let precondition = preconditions::parse(&headers);
    let function = state.qualified(name.clone());
    let activated = state.deployer.activate(&actor, function, revision, precondition).await?;
    let Some(activated) = activated else {
        let exists = state.store.function(&state.tenant, name.as_str()).await?.is_some();
        return Err(match exists {
            true => Problem::revision_not_found(name.as_str(), revision),
            false => Problem::function_not_found(name.as_str()),
        });
    };
    Ok(shown(activated, &state, scope).await)
}

/// Makes the revision active that was active before the current one.
///
/// A second roll-back goes back one further.
#[utoipa::path(
    post, path = "/v1/functions/{name}/rollback", tag = "functions",
    operation_id = "rollBackFunction",
    params(NamePath, IfMatch),
    responses(
        (status = 200, description = "The changed function", body = FunctionView),
        (status = 400, description = "The name is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No revision was active before", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The function does not meet the precondition", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn roll_back(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    PathParams(name): PathParams<String>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
) -> Result<Shown, Problem> {
    let name = parse(&name)?;
    let precondition = preconditions::parse(&headers);
    let function = state.qualified(name.clone());
    let rolled_back = state.deployer.roll_back(&actor, function, precondition).await?;
    let rolled_back = rolled_back.ok_or_else(|| Problem::function_not_found(name.as_str()))?;
    Ok(shown(rolled_back, &state, scope).await)
}

/// Lists the changes of the revision that a function is at.
#[utoipa::path(
    get, path = "/v1/functions/{name}/history", tag = "functions",
    operation_id = "listHistory",
    params(NamePath, NumbersPage),
    responses(
        (status = 200, description = "A page", body = HistoryView),
        (status = 400, description = "The query cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn history(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    page: Result<Query<NumbersPage>, QueryRejection>,
) -> Result<Json<HistoryView>, Problem> {
    let name = parse(&name)?;
    let Query(page) = page.map_err(|error| Problem::bad_query(error.body_text()))?;
    let limit = page.limit();
    let cursor = page.cursor.map(u64::from);
    let found = state.store.history(&state.tenant, name.as_str(), cursor, limit).await?;
    if found.is_empty() && state.store.function(&state.tenant, name.as_str()).await?.is_none() {
        return Err(Problem::function_not_found(name.as_str()));
    }
    let next_cursor = next_cursor(&found, limit, |change| change.number.to_string());
    Ok(Json(HistoryView { changes: found.into_iter().map(views::change).collect(), next_cursor }))
}
