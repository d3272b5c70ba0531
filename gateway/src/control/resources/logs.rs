//! `/v1/functions/{name}/logs`: the output of guests.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use gateway_api::LogView;
use serde::Deserialize;
use store::LogQuery;
use utoipa::IntoParams;

use crate::{
    control::{
        extract::{NamePath, PathParams},
        resources::functions::parse,
        state::ControlState,
        views,
    },
    problem::Problem,
};

const LINES: u32 = 100;
const LINES_MAX: u32 = 1_000;

/// The lines to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhichLines {
    /// Lines after this cursor. The default is the newest lines.
    after: Option<i64>,
    /// Only lines of this invocation.
    invocation: Option<String>,
    /// The number of lines. The default is 100; more than 1,000 count as 1,000.
    #[param(format = Int64, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
}

/// Shows a function's log.
#[utoipa::path(
    get, path = "/v1/functions/{name}/logs", tag = "functions",
    operation_id = "readLogs",
    params(NamePath, WhichLines),
    responses(
        (status = 200, description = "Lines", body = LogView),
        (status = 400, description = "The query cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    which: Result<Query<WhichLines>, QueryRejection>,
) -> Result<Json<LogView>, Problem> {
    let name = parse(&name)?;
    let Query(which) = which.map_err(|error| Problem::bad_query(error.body_text()))?;
    let function = state
        .store
        .function(&state.tenant, name.as_str())
        .await?
        .ok_or_else(|| Problem::function_not_found(name.as_str()))?
        .function;
    let query = LogQuery {
        after: which.after,
        invocation: which.invocation.as_deref(),
        limit: which.limit.unwrap_or(LINES).clamp(1, LINES_MAX),
    };
    let found = state.store.logs(function.id, query).await?;
    let next_cursor = found.last().map(|line| line.id).or(which.after);
    let lines = found.into_iter().map(views::log_line);
    Ok(Json(LogView { lines: lines.collect(), next_cursor }))
}
