//! `/v1/schedules`: when functions are called, by the calendar.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use gateway_api::{ChangeSchedule, ScheduleSpec, ScheduleView, SchedulesView, StartedRun};
use http::StatusCode;

use crate::{
    control::{
        extract::{Document, NamePath, PathParams, deleted_or},
        page::{Page, next_cursor},
        state::ControlState,
        views,
    },
    problem::Problem,
    telemetry::clock::rfc3339,
};

/// Sets a schedule, or replaces all of it.
///
/// Due times of another expression or zone, and those of a pause, are not caught up with. When this
/// answers, nothing runs by what was before it.
#[utoipa::path(
    put, path = "/v1/schedules/{name}", tag = "schedules",
    operation_id = "putSchedule",
    params(NamePath),
    request_body = ScheduleSpec,
    responses(
        (status = 201, description = "A new schedule is set", body = ScheduleView),
        (status = 200, description = "The schedule was replaced", body = ScheduleView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are too many schedules", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The name or a member is not valid, it would never be due, or there is no such function", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    Document(body): Document,
) -> Result<(StatusCode, Json<ScheduleView>), Problem> {
    let spec: ScheduleSpec =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let max = state.deployer.schedules_max();
    let put = state.triggers.schedules.put(state.tenant.clone(), &name, spec, max).await;
    let (schedule, is_new) = put.map_err(|error| Problem::of_schedule(error, &name))?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(views::schedule(schedule))))
}

/// Lists schedules by name.
#[utoipa::path(
    get, path = "/v1/schedules", tag = "schedules",
    operation_id = "listSchedules",
    params(Page),
    responses(
        (status = 200, description = "A page of schedules, without their runs", body = SchedulesView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<SchedulesView>, Problem> {
    let Query(page) = page.map_err(|error| Problem::bad_query(error.body_text()))?;
    let after = page.cursor.as_deref().unwrap_or_default();
    let schedules = state.triggers.schedules.list(&state.tenant, after, page.limit()).await?;
    let next_cursor =
        next_cursor(&schedules, page.limit(), |schedule| schedule.record.name.clone());
    let schedules = schedules.into_iter().map(views::schedule).collect();
    Ok(Json(SchedulesView { schedules, next_cursor }))
}

/// Shows a schedule with its next due times and its last runs.
#[utoipa::path(
    get, path = "/v1/schedules/{name}", tag = "schedules",
    operation_id = "getSchedule",
    params(NamePath),
    responses(
        (status = 200, description = "The schedule", body = ScheduleView),
        (status = 404, description = "There is no such schedule", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
) -> Result<Json<ScheduleView>, Problem> {
    let schedule = state.triggers.schedules.get(&state.tenant, &name).await?;
    Ok(Json(views::schedule(schedule.ok_or_else(|| Problem::schedule_not_found(&name))?)))
}

/// Pauses or resumes a schedule.
#[utoipa::path(
    patch, path = "/v1/schedules/{name}", tag = "schedules",
    operation_id = "changeSchedule",
    params(NamePath),
    request_body = ChangeSchedule,
    responses(
        (status = 200, description = "The schedule as it is then", body = ScheduleView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such schedule", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn change(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    Document(body): Document,
) -> Result<Json<ScheduleView>, Problem> {
    let change: ChangeSchedule =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let changed = state.triggers.schedules.change(state.tenant.clone(), &name, change).await;
    let schedule = changed.map_err(|error| Problem::of_schedule(error, &name))?;
    Ok(Json(views::schedule(schedule)))
}

/// Deletes a schedule. Runs that wait in the queue still run.
#[utoipa::path(
    delete, path = "/v1/schedules/{name}", tag = "schedules",
    operation_id = "deleteSchedule",
    params(NamePath),
    responses(
        (status = 204, description = "The schedule was deleted"),
        (status = 404, description = "There is no such schedule", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
) -> Result<StatusCode, Problem> {
    deleted_or(state.triggers.schedules.delete(state.tenant.clone(), &name).await?, || {
        Problem::schedule_not_found(&name)
    })
}

/// Runs a schedule now, also if it is paused, and whatever it says about overlaps.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/run", tag = "schedules",
    operation_id = "runSchedule",
    params(NamePath),
    responses(
        (status = 202, description = "The run is in the queue", body = StartedRun),
        (status = 404, description = "There is no such schedule", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "There is no such function", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The queue is full", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn run(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
) -> Result<(StatusCode, Json<StartedRun>), Problem> {
    let run = state.triggers.schedules.run(&state.tenant, &name).await;
    let (invocation, due_ms) = run.map_err(|error| Problem::of_schedule(error, &name))?;
    let started = StartedRun { invocation, due_at: rfc3339(due_ms) };
    Ok((StatusCode::ACCEPTED, Json(started)))
}
