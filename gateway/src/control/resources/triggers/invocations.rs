//! `/v1/invocations`: calls that were enqueued, and what became of them.

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
};
use gateway_api::{
    ChangedInvocationsView, InvocationView, InvocationWord, InvocationsView, SentView,
};
use http::StatusCode;
use serde::Deserialize;
use store::{CallState, Invocation, InvocationFilter, InvocationSummary};
use utoipa::IntoParams;

use crate::{
    control::{
        auth::tokens::Scope,
        extract::PathParams,
        page::{entries, next_cursor},
        state::ControlState,
    },
    problem::Problem,
    telemetry::clock::{now_ms, rfc3339},
    triggers::{
        queued_call::request_id_text,
        views::{answer, joined, text_or_base64},
    },
};

/// What stands in place of a credential.
const HIDDEN: &str = "(hidden)";
/// Header fields whose values are credentials.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
/// Bytes of a request's body that are shown.
const SHOWN_BYTES: usize = 64 << 10;

/// Which calls.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SoughtInvocations {
    /// Only calls of this function.
    function: Option<String>,
    /// Only calls in this state.
    #[param(value_type = InvocationWord, required = false)]
    state: Option<String>,
    /// Entries on the page. The default is 100; more than 1,000 count as 1,000.
    #[param(format = Int64, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
}

/// Which calls to change.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChangedInvocations {
    /// Only calls of this function.
    function: Option<String>,
    /// Only calls in this state. The default is `dead`.
    #[param(value_type = InvocationWord, required = false)]
    state: Option<String>,
}

/// Which dead calls to run again.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RedrivenInvocations {
    /// Only calls of this function.
    function: Option<String>,
}

/// The id in a path, for the API's description.
#[expect(dead_code, reason = "the handlers read it themselves, to answer with problems")]
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct InvocationPath {
    /// The id of the call.
    id: String,
}

/// Lists calls that were enqueued, the newest first.
#[utoipa::path(
    get, path = "/v1/invocations", tag = "invocations",
    operation_id = "listInvocations",
    params(SoughtInvocations),
    responses(
        (status = 200, description = "A page of calls", body = InvocationsView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    sought: Result<Query<SoughtInvocations>, QueryRejection>,
) -> Result<Json<InvocationsView>, Problem> {
    let Query(sought) = sought.map_err(|error| Problem::bad_query(error.body_text()))?;
    let filter = filter(sought.function, sought.state.as_deref())?;
    let before = sought.cursor.as_deref().map(cursor).transpose()?;
    let limit = entries(sought.limit);
    let found = state.store.invocations(&state.tenant, &filter, before, limit).await;
    let found = found.map_err(|error| Problem::of_store(&error))?;
    let next_cursor = next_cursor(&found, limit, |call| call.seq.to_string());
    let invocations = found.into_iter().map(summary).collect();
    Ok(Json(InvocationsView { invocations, next_cursor }))
}

/// Shows a call with what was sent and answered.
#[utoipa::path(
    get, path = "/v1/invocations/{id}", tag = "invocations",
    operation_id = "getInvocation",
    params(InvocationPath),
    responses(
        (status = 200, description = "The call", body = InvocationView),
        (status = 404, description = "There is no such call", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    PathParams(id): PathParams<String>,
) -> Result<Json<InvocationView>, Problem> {
    let call = state.store.invocation(&state.tenant, &id).await;
    let call = call.map_err(|error| Problem::of_store(&error))?;
    let call = call.ok_or_else(Problem::invocation_not_found)?;
    Ok(Json(whole(&call, scope.covers(Scope::Deploy))))
}

/// Removes a call that does not run, with its answer.
#[utoipa::path(
    delete, path = "/v1/invocations/{id}", tag = "invocations",
    operation_id = "deleteInvocation",
    params(InvocationPath),
    responses(
        (status = 204, description = "The call was removed"),
        (status = 404, description = "There is no such call", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The call runs", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<ControlState>,
    PathParams(id): PathParams<String>,
) -> Result<StatusCode, Problem> {
    let all = InvocationFilter::default();
    let removed = state.store.purge_invocations(&state.tenant, &all, Some(&id)).await;
    if removed.map_err(|error| Problem::of_store(&error))? > 0 {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(absent_or_begun(&state, &id).await)
}

/// Runs a dead call again, under its id, with all its attempts and its whole time.
#[utoipa::path(
    post, path = "/v1/invocations/{id}/redrive", tag = "invocations",
    operation_id = "redriveInvocation",
    params(InvocationPath),
    responses(
        (status = 200, description = "The call is due", body = ChangedInvocationsView),
        (status = 404, description = "There is no such call", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The call is not dead", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn redrive(
    State(state): State<ControlState>,
    PathParams(id): PathParams<String>,
) -> Result<Json<ChangedInvocationsView>, Problem> {
    let all = InvocationFilter::default();
    let count = redriven(&state, &all, Some(&id)).await?;
    if count == 0 {
        return Err(absent_or_begun(&state, &id).await);
    }
    Ok(Json(ChangedInvocationsView { count }))
}

/// Runs dead calls again.
#[utoipa::path(
    post, path = "/v1/invocations/redrive", tag = "invocations",
    operation_id = "redriveInvocations",
    params(RedrivenInvocations),
    responses(
        (status = 200, description = "So many calls are due", body = ChangedInvocationsView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn redrive_all(
    State(state): State<ControlState>,
    sought: Result<Query<RedrivenInvocations>, QueryRejection>,
) -> Result<Json<ChangedInvocationsView>, Problem> {
    let Query(sought) = sought.map_err(|error| Problem::bad_query(error.body_text()))?;
    let filter = filter(sought.function, None)?;
    Ok(Json(ChangedInvocationsView { count: redriven(&state, &filter, None).await? }))
}

/// Removes calls: dead ones, or those in another state. One that runs is never removed.
#[utoipa::path(
    delete, path = "/v1/invocations", tag = "invocations",
    operation_id = "purgeInvocations",
    params(ChangedInvocations),
    responses(
        (status = 200, description = "So many calls were removed", body = ChangedInvocationsView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn purge(
    State(state): State<ControlState>,
    sought: Result<Query<ChangedInvocations>, QueryRejection>,
) -> Result<Json<ChangedInvocationsView>, Problem> {
    let Query(sought) = sought.map_err(|error| Problem::bad_query(error.body_text()))?;
    let dead = CallState::Dead.as_str();
    let filter = filter(sought.function, Some(sought.state.as_deref().unwrap_or(dead)))?;
    let count = state.store.purge_invocations(&state.tenant, &filter, None).await;
    Ok(Json(ChangedInvocationsView { count: count.map_err(|error| Problem::of_store(&error))? }))
}

async fn redriven(
    state: &ControlState,
    filter: &InvocationFilter,
    id: Option<&str>,
) -> Result<u64, Problem> {
    let count = state.store.redrive_invocations(&state.tenant, filter, id, now_ms()).await;
    let count = count.map_err(|error| Problem::of_store(&error))?;
    state.triggers.queue.wake();
    Ok(count)
}

/// Why a call was not changed.
async fn absent_or_begun(state: &ControlState, id: &str) -> Problem {
    match state.store.invocation(&state.tenant, id).await {
        Ok(Some(call)) => Problem::invocation_begun(call.state.as_str()),
        Ok(None) => Problem::invocation_not_found(),
        Err(error) => Problem::of_store(&error),
    }
}

fn filter(function: Option<String>, state: Option<&str>) -> Result<InvocationFilter, Problem> {
    Ok(InvocationFilter { function, state: state.map(known_state).transpose()?, lane: None })
}

/// A state by its name.
pub(crate) fn known_state(text: &str) -> Result<CallState, Problem> {
    let found = CallState::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| {
        let names = CallState::ALL.map(CallState::as_str).join(", ");
        Problem::bad_query(format!("state: must be one of {names}"))
    })
}

/// A cursor that is a number.
pub(crate) fn cursor(text: &str) -> Result<i64, Problem> {
    text.parse()
        .map_err(|_| Problem::bad_query("cursor: must be `next_cursor` of another page".to_owned()))
}

fn summary(call: InvocationSummary) -> InvocationView {
    InvocationView {
        request_id: (call.attempt > 0).then(|| request_id_text(&call.id, call.attempt)),
        id: call.id,
        function: call.function,
        channel: None,
        revision: None,
        cause: call.cause.as_str().to_owned(),
        source: call.source,
        state: call.state.as_str().to_owned(),
        attempts: call.attempt,
        created_at: rfc3339(call.created_ms),
        due_at: rfc3339(call.due_ms),
        expires_at: rfc3339(call.expires_ms),
        finished_at: call.finished_ms.map(rfc3339),
        error: call.last_error,
        status: call.answer_status,
        request: None,
        answer: None,
    }
}

fn whole(call: &Invocation, may_deploy: bool) -> InvocationView {
    InvocationView {
        id: call.id.clone(),
        function: call.function.clone(),
        channel: call.channel.clone(),
        revision: call.revision,
        cause: call.cause.as_str().to_owned(),
        source: call.source.clone(),
        state: call.state.as_str().to_owned(),
        attempts: call.attempt,
        created_at: rfc3339(call.created_ms),
        due_at: rfc3339(call.due_ms),
        expires_at: rfc3339(call.expires_ms),
        finished_at: call.finished_ms.map(rfc3339),
        error: call.last_error.clone(),
        status: call.answer.as_ref().map(|answer| answer.status),
        request_id: (call.attempt > 0).then(|| request_id_text(&call.id, call.attempt)),
        request: Some(sent(call, may_deploy)),
        answer: call.answer.as_ref().filter(|_| may_deploy).map(answer),
    }
}

/// What was sent. What callers send is for those who may change the function that reads it.
fn sent(call: &Invocation, may_deploy: bool) -> SentView {
    let request = &call.request;
    let fields = request.fields.0.iter().map(|(name, value)| {
        let shown = may_deploy && !CREDENTIALS.contains(&name.as_str());
        (name.as_str(), if shown { value.as_slice() } else { HIDDEN.as_bytes() })
    });
    let cut = request.body.len() > SHOWN_BYTES;
    let shown = &request.body[..request.body.len().min(SHOWN_BYTES)];
    let (body, body_base64) = match may_deploy {
        true => text_or_base64(shown, cut),
        false => (None, None),
    };
    SentView {
        method: request.method.clone(),
        target: request.target.clone(),
        headers: joined(fields),
        body_bytes: request.body.len() as u64,
        body,
        body_base64,
    }
}
