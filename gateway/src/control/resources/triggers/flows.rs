//! `/v1/flows`: flows and their runs.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use gateway_api::{
    DurableRunView, DurableRunsView, FlowRunView, FlowSpec, FlowStepView, FlowView, FlowsView,
    InvocationWord, StartFlow, StartedFlow,
};
use http::StatusCode;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use store::{
    Dedup, EnqueueOutcome, Invocation, InvocationSummary, StepOutcome, StepRecord, StoredFields,
    StoredRequest,
};
use utoipa::IntoParams;

use crate::{
    control::{
        extract::{Document, NamePath, PathParams, object},
        page::{Page, entries, next_cursor},
        resources::triggers::invocations::{cursor, known_state},
        state::ControlState,
    },
    problem::Problem,
    request::idempotency_key::is_idempotency_key,
    telemetry::clock::rfc3339,
    triggers::{
        flows::{FlowError, FlowWithTotals, table::RecentRun},
        queued_call::CallOrigin,
        views::STATUS_PREFIX,
    },
};

/// Which runs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SoughtRuns {
    /// Only runs in this state.
    #[param(value_type = InvocationWord, required = false)]
    state: Option<String>,
    /// Entries on the page. The default is 100; more than 1,000 count as 1,000.
    #[param(format = Int64, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
}

/// How a flow is deleted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeletedFlow {
    /// Whether runs that are not done are deleted with it.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// The id in a path, for the API's description.
#[expect(dead_code, reason = "the handlers read it themselves, to answer with problems")]
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct RunPath {
    /// The id of the run.
    id: String,
}

/// Sets a flow, or replaces all of it.
///
/// Runs that have begun go on as they began.
#[utoipa::path(
    put, path = "/v1/flows/{name}", tag = "flows",
    operation_id = "putFlow",
    params(NamePath),
    request_body = FlowSpec,
    responses(
        (status = 201, description = "A new flow is set", body = FlowView),
        (status = 200, description = "The flow was replaced", body = FlowView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are too many flows", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The name or a member is not valid, there is no such function or flow, or it would run within itself", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    Document(body): Document,
) -> Result<(StatusCode, Json<FlowView>), Problem> {
    let spec: FlowSpec =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let max = state.deployer.flows_max();
    let put = state.triggers.flows.put(state.tenant.clone(), &name, spec, max).await;
    let (flow, is_new) = put.map_err(|error| Problem::of_flow(error, &name))?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(whole(flow))))
}

/// Lists flows by name.
#[utoipa::path(
    get, path = "/v1/flows", tag = "flows",
    operation_id = "listFlows",
    params(Page),
    responses(
        (status = 200, description = "A page of flows, without their runs", body = FlowsView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<FlowsView>, Problem> {
    let Query(page) = page.map_err(|error| Problem::bad_query(error.body_text()))?;
    let after = page.cursor.as_deref().unwrap_or_default();
    let flows = state.triggers.flows.list(&state.tenant, after, page.limit() as usize).await?;
    let next_cursor = next_cursor(&flows, page.limit(), |(flow, _)| flow.name.clone());
    let flows = flows.into_iter().map(|flow| view(flow, Vec::new())).collect();
    Ok(Json(FlowsView { flows, next_cursor }))
}

/// Shows a flow with its last runs whose clients have waited.
#[utoipa::path(
    get, path = "/v1/flows/{name}", tag = "flows",
    operation_id = "getFlow",
    params(NamePath),
    responses(
        (status = 200, description = "The flow", body = FlowView),
        (status = 404, description = "There is no such flow", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
) -> Result<Json<FlowView>, Problem> {
    let flow = state.triggers.flows.get(&state.tenant, &name).await;
    Ok(Json(whole(flow.map_err(|error| Problem::of_flow(error, &name))?)))
}

/// Deletes a flow with its asynchronous runs. One that a route or another flow names is not deleted, and one
/// with runs that are not done only by `force`.
#[utoipa::path(
    delete, path = "/v1/flows/{name}", tag = "flows",
    operation_id = "deleteFlow",
    params(NamePath, DeletedFlow),
    responses(
        (status = 204, description = "The flow was deleted"),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such flow", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The flow is in use", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    query: Result<Query<DeletedFlow>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Query(DeletedFlow { force }) =
        query.map_err(|error| Problem::bad_query(error.body_text()))?;
    let routes = state.routes.list(&state.tenant, "", usize::MAX).await;
    let route = routes.iter().find(|route| route.spec.flow.as_deref() == Some(&*name));
    if let Some(route) = route.filter(|_| state.triggers.flows.exists(&state.tenant, &name)) {
        let why = format!("the route {:?} leads to it", route.name);
        return Err(Problem::of_flow(FlowError::InUse(why), &name));
    }
    let deleted = state.triggers.flows.delete(state.tenant.clone(), &name, force).await;
    deleted.map_err(|error| Problem::of_flow(error, &name))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Starts an asynchronous run. When this answers, it survives a crash.
#[utoipa::path(
    post, path = "/v1/flows/{name}/runs", tag = "flows",
    operation_id = "startFlow",
    params(NamePath),
    request_body = StartFlow,
    responses(
        (status = 202, description = "The run is in the queue", body = StartedFlow),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such flow", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The input is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The idempotency key is not valid, or belongs to another run, or a flow within this one is gone", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many runs wait", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn start(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    Document(body): Document,
) -> Result<(StatusCode, Json<StartedFlow>), Problem> {
    let StartFlow { input, idempotency_key } = object(&body)?;
    let body = input.to_string().into_bytes();
    let dedup = match idempotency_key {
        Some(key) if !is_idempotency_key(&key) => {
            let why = "idempotency_key: 1 to 255 visible ASCII characters are allowed".to_owned();
            return Err(Problem::of_flow(FlowError::Refused(why), &name));
        }
        key => key.map(|key| Dedup {
            key: Sha256::digest(format!("api {key}")).into(),
            fingerprint: Sha256::digest(&body).into(),
        }),
    };
    let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let fields = vec![field("host", "localhost"), field("content-type", "application/json")];
    let request = StoredRequest {
        method: "POST".to_owned(),
        target: "/".to_owned(),
        fields: StoredFields(fields),
        body,
    };
    let asked = (request, CallOrigin::default());
    let started = state.triggers.flows.start(&state.tenant, &name, asked, dedup).await;
    let started = started.map_err(|error| Problem::of_flow(error, &name))?;
    let repeated = started.outcome == EnqueueOutcome::Known;
    let location = format!("{STATUS_PREFIX}{}", started.id);
    Ok((StatusCode::ACCEPTED, Json(StartedFlow { id: started.id, repeated, location })))
}

/// Lists asynchronous runs of a flow, the newest first.
#[utoipa::path(
    get, path = "/v1/flows/{name}/runs", tag = "flows",
    operation_id = "listFlowRuns",
    params(NamePath, SoughtRuns),
    responses(
        (status = 200, description = "A page of runs, without their steps", body = DurableRunsView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such flow", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn runs(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    sought: Result<Query<SoughtRuns>, QueryRejection>,
) -> Result<Json<DurableRunsView>, Problem> {
    let Query(sought) = sought.map_err(|error| Problem::bad_query(error.body_text()))?;
    let in_state = sought.state.as_deref().map(known_state).transpose()?;
    let before = sought.cursor.as_deref().map(cursor).transpose()?;
    let limit = entries(sought.limit);
    let found = state.triggers.flows.runs(&state.tenant, &name, in_state, (before, limit)).await;
    let found = found.map_err(|error| Problem::of_flow(error, &name))?;
    let next_cursor = next_cursor(&found, limit, |run| run.seq.to_string());
    let runs = found.into_iter().map(listed_run).collect();
    Ok(Json(DurableRunsView { runs, next_cursor }))
}

/// Shows an asynchronous run with its steps so far.
#[utoipa::path(
    get, path = "/v1/flows/{name}/runs/{id}", tag = "flows",
    operation_id = "getFlowRun",
    params(NamePath, RunPath),
    responses(
        (status = 200, description = "The run", body = DurableRunView),
        (status = 404, description = "There is no such flow or run", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn run(
    State(state): State<ControlState>,
    PathParams((name, id)): PathParams<(String, String)>,
) -> Result<Json<DurableRunView>, Problem> {
    let found = state.triggers.flows.durable_run(&state.tenant, &name, &id).await;
    let found = found.map_err(|error| Problem::of_flow(error, &name))?;
    let (call, steps) = found.ok_or_else(Problem::invocation_not_found)?;
    Ok(Json(durable_run(call, &steps)))
}

fn whole(flow: FlowWithTotals) -> FlowView {
    let recent = flow.0.recent();
    let recent = recent.iter().map(|run| recent_run(run)).collect();
    view(flow, recent)
}

fn view((flow, totals): FlowWithTotals, recent: Vec<FlowRunView>) -> FlowView {
    let count = |count: fn(&store::LaneTotals) -> u64| totals.as_ref().map_or(0, count);
    FlowView {
        name: flow.name.clone(),
        flow: flow.spec.clone(),
        waiting: count(|totals| totals.due),
        running: count(|totals| totals.running),
        dead: count(|totals| totals.dead),
        recent,
        created_at: rfc3339(flow.created_ms),
        updated_at: rfc3339(flow.updated_ms),
    }
}

fn recent_run(run: &RecentRun) -> FlowRunView {
    FlowRunView {
        id: run.id.clone(),
        started_at: rfc3339(run.started_ms),
        took_ms: took(run.started_ms, run.ended_ms),
        outcome: run.outcome.to_owned(),
        steps: run.steps.iter().map(step).collect(),
    }
}

fn listed_run(run: InvocationSummary) -> DurableRunView {
    DurableRunView {
        id: run.id,
        state: run.state.as_str().to_owned(),
        attempts: run.attempt,
        created_at: rfc3339(run.created_ms),
        due_at: rfc3339(run.due_ms),
        finished_at: run.finished_ms.map(rfc3339),
        error: run.last_error,
        status: run.answer_status,
        steps: Vec::new(),
    }
}

fn durable_run(run: Invocation, steps: &[StepRecord]) -> DurableRunView {
    DurableRunView {
        id: run.id,
        state: run.state.as_str().to_owned(),
        attempts: run.attempt,
        created_at: rfc3339(run.created_ms),
        due_at: rfc3339(run.due_ms),
        finished_at: run.finished_ms.map(rfc3339),
        error: run.last_error,
        status: run.answer.map(|answer| answer.status),
        steps: steps.iter().map(step).collect(),
    }
}

fn step(step: &StepRecord) -> FlowStepView {
    let outcome = match step.outcome {
        StepOutcome::Done => "done",
        StepOutcome::Continued => "continued",
        StepOutcome::Failed => "failed",
    };
    FlowStepView {
        step: step.path.clone(),
        target: step.target.clone(),
        id: step.id.clone(),
        outcome: outcome.to_owned(),
        attempt: step.attempt,
        status: step.status,
        error: step.error.clone(),
        started_at: rfc3339(step.started_ms),
        took_ms: took(step.started_ms, step.ended_ms),
    }
}

fn took(started_ms: i64, ended_ms: i64) -> u64 {
    // A clock that was set back has measured nothing.
    ended_ms.saturating_sub(started_ms).max(0).unsigned_abs()
}
