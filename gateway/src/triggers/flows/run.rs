//! A run of a flow: its steps, one after the other, and the members of a group at once.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use gateway_api::{ErrorAction, FlowSpec, FlowStep};
use runtime_pool::FunctionCall;
use serde_json::{Map, Value};
use store::{StepOutcome, StepRecord, StoredAnswer, StoredFields, StoredRequest, Tenant};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    functions::catalog::{Catalog, CatalogEntry},
    problem::{Problem, table},
    telemetry::clock::now_ms,
    triggers::{
        backoff::{AttemptEnd, of_status},
        calling::{FunctionCaller, Unanswered},
        flows::{
            metrics::FlowMetrics,
            plan::FlowPlan,
            progress::{NotRecorded, RunProgress, step_id},
            spec::{INPUT, PARAMS},
            state::{FlowState, StateTooLarge, StateValue},
        },
        queued_call::{self, CallOrigin},
    },
};

/// Fields by which a function sees the flow that calls it. Only the gateway can set them.
const FLOW: &str = "mayfly-flow";
const STEP: &str = "mayfly-flow-step";
/// The named segments of the route, as one JSON object.
const FLOW_PARAMS: &str = "mayfly-flow-params";
/// Before the name of a segment, in the fields that a route adds.
const PARAM_PREFIX: &str = "mayfly-param-";
/// Bytes of the text of an error that the state gets.
const MESSAGE_BYTES: usize = 4 << 10;

/// What all runs have in common.
#[derive(Clone)]
pub(super) struct FlowParts {
    pub(super) catalog: Arc<Catalog>,
    pub(super) functions: FunctionCaller,
    pub(super) metrics: Arc<FlowMetrics>,
    /// The most bytes of a state.
    pub(super) state_bytes: usize,
}

/// A run.
pub(super) struct FlowRun {
    pub(super) parts: FlowParts,
    pub(super) tenant: Tenant,
    pub(super) id: String,
    /// The number of its attempt.
    pub(super) attempt: u32,
    pub(super) plan: FlowPlan,
    /// The name of its flow in metrics.
    pub(super) label: Arc<str>,
    pub(super) request: StoredRequest,
    pub(super) origin: CallOrigin,
    /// What the client has in flight besides, if one waits.
    pub(super) others: Option<usize>,
    pub(super) deadline: Instant,
    pub(super) progress: RunProgress,
}

/// Why a run has no answer.
#[derive(Debug)]
pub(super) enum FlowFailure {
    /// A step has failed, and the flow says that it ends with that.
    Step(Box<FailedStep>),
    TooLarge,
    OutOfTime,
    /// Another attempt of the run has begun. This one has nothing to say.
    Superseded,
    Store(store::Error),
}

/// A step that has failed.
#[derive(Debug)]
pub(super) struct FailedStep {
    /// Its place.
    pub(super) path: String,
    pub(super) target: String,
    pub(super) status: u16,
    /// What becomes of the attempt of an asynchronous run.
    pub(super) end: AttemptEnd,
    pub(super) why: FailedWhy,
}

/// Why a step has failed.
#[derive(Debug)]
pub(super) enum FailedWhy {
    /// Its function has answered so.
    Answer(StateValue),
    /// There is no answer.
    Problem(Problem),
}

impl FailedStep {
    /// Why, in a line.
    pub(super) fn reason(&self) -> String {
        match &self.why {
            FailedWhy::Answer(_) => {
                format!("the function answered with the status {}", self.status)
            }
            FailedWhy::Problem(problem) => problem.summary(),
        }
    }

    /// The text that the state gets.
    fn message(&self) -> String {
        match &self.why {
            FailedWhy::Problem(problem) => problem.summary(),
            FailedWhy::Answer(value) => {
                let shown = &value.body[..value.body.len().min(MESSAGE_BYTES)];
                String::from_utf8_lossy(shown).into_owned()
            }
        }
    }
}

impl From<StateTooLarge> for FlowFailure {
    fn from(StateTooLarge: StateTooLarge) -> Self {
        Self::TooLarge
    }
}

impl From<NotRecorded> for FlowFailure {
    fn from(error: NotRecorded) -> Self {
        match error {
            NotRecorded::Superseded => Self::Superseded,
            NotRecorded::Store(error) => Self::Store(error),
        }
    }
}

/// The status and the value of a step, or why it has failed.
type StepEnded = Result<(u16, StateValue), Box<FailedStep>>;
/// A run.
type RunningFlow = Pin<Box<dyn Future<Output = Result<StateValue, FlowFailure>> + Send>>;
/// A flow within another one, as it runs.
type InnerFlow = Pin<Box<dyn Future<Output = Result<StepEnded, FlowFailure>> + Send>>;

/// A flow as it runs: the run's own, or one within it.
struct FlowLevel {
    /// Before the places of its steps.
    prefix: String,
    /// What it is asked. Its first step gets that, unless it names what it wants to see.
    request: StoredRequest,
}

impl FlowRun {
    /// Runs the flow to its end, and returns its answer. A boxed future of a named type: what serves requests
    /// contains it, and its own type is too deep to be looked through from there.
    pub(super) fn run(self: Arc<Self>) -> RunningFlow {
        let level = FlowLevel { prefix: String::new(), request: self.request.clone() };
        let flow = self.plan.flow.clone();
        Box::pin(self.flow(flow, level))
    }

    async fn flow(
        self: Arc<Self>,
        flow: FlowSpec,
        level: FlowLevel,
    ) -> Result<StateValue, FlowFailure> {
        let mut state = FlowState::new(self.parts.state_bytes);
        let content_type = field(&level.request, "content-type");
        let body = Bytes::copy_from_slice(&level.request.body);
        state.set(INPUT, StateValue::of(content_type, body))?;
        state.set(PARAMS, StateValue::json(&params(&self.request)))?;
        let level = Arc::new(level);
        let mut last = StateValue::json(&Value::Null);
        for (index, step) in flow.steps.iter().enumerate() {
            if Instant::now() >= self.deadline {
                return Err(FlowFailure::OutOfTime);
            }
            let at = format!("{}{index}", level.prefix);
            let values = if step.group.is_empty() {
                let view = view(&state, step, index == 0)?;
                vec![Arc::clone(&self).step(step.clone(), at, Arc::clone(&level), view).await?]
            } else {
                Arc::clone(&self).group(&step.group, &at, &level, &state, index == 0).await?
            };
            for (key, value) in values {
                last = value.clone();
                state.set(&key, value)?;
            }
        }
        match flow.response.as_deref() {
            None => Ok(last),
            // A key that the flow had when it was set.
            Some(key) => Ok(state.get(key).cloned().unwrap_or(last)),
        }
    }

    /// Runs the members of a group at once, and waits for all of them: those that have begun have effects.
    async fn group(
        self: Arc<Self>,
        members: &[FlowStep],
        at: &str,
        level: &Arc<FlowLevel>,
        state: &FlowState,
        is_first: bool,
    ) -> Result<Vec<(String, StateValue)>, FlowFailure> {
        let mut running = JoinSet::new();
        for (index, member) in members.iter().enumerate() {
            let view = view(state, member, is_first)?;
            let (this, level) = (Arc::clone(&self), Arc::clone(level));
            let (member, path) = (member.clone(), format!("{at}.{index}"));
            running.spawn(async move { (index, this.step(member, path, level, view).await) });
        }
        let mut ended = Vec::with_capacity(members.len());
        while let Some(member) = running.join_next().await {
            match member {
                Ok(member) => ended.push(member),
                // It was logged where it happened.
                Err(_panicked) => return Err(FlowFailure::Step(Box::new(broken(at)))),
            }
        }
        // Of several failures, the first in the flow's order.
        ended.sort_by_key(|(index, _)| *index);
        ended.into_iter().map(|(_, value)| value).collect()
    }

    /// Runs a step that is no group, unless an earlier attempt has. Returns its key and what it adds.
    async fn step(
        self: Arc<Self>,
        step: FlowStep,
        path: String,
        level: Arc<FlowLevel>,
        view: Option<String>,
    ) -> Result<(String, StateValue), FlowFailure> {
        let target = step.function.as_ref().or(step.flow.as_ref()).cloned().unwrap_or_default();
        let key = step.key.clone().unwrap_or_else(|| target.clone());
        if let Some(value) = self.progress.earlier(&path) {
            return Ok((key, value));
        }
        let started_ms = now_ms();
        let request = self.request_of(&step, &level, view);
        let ended = match step.flow.is_some() {
            false => self.call(&step, &path, request).await,
            true => Arc::clone(&self).inner(&target, &path, request).await?,
        };
        let record = |outcome, status, error, value: Option<&StateValue>| StepRecord {
            path: path.clone(),
            id: step_id(&self.id, &path),
            target: target.clone(),
            outcome,
            attempt: self.attempt,
            status,
            error,
            started_ms,
            ended_ms: now_ms(),
            answer: value.map(StateValue::stored),
        };
        let metrics = &self.parts.metrics;
        match ended {
            Ok((status, value)) => {
                metrics.step(&self.label, StepOutcome::Done);
                let done = record(StepOutcome::Done, Some(status), None, Some(&value));
                self.progress.record(done).await?;
                Ok((key, value))
            }
            Err(failed) if action(&step, failed.status) == ErrorAction::Continue => {
                metrics.step(&self.label, StepOutcome::Continued);
                let value = StateValue::error(failed.status, &failed.message());
                let (status, why) = (Some(failed.status), Some(failed.reason()));
                let continued = record(StepOutcome::Continued, status, why, Some(&value));
                self.progress.record(continued).await?;
                Ok((key, value))
            }
            Err(failed) => {
                metrics.step(&self.label, StepOutcome::Failed);
                let (status, why) = (Some(failed.status), Some(failed.reason()));
                self.progress.record(record(StepOutcome::Failed, status, why, None)).await?;
                Err(FlowFailure::Step(failed))
            }
        }
    }

    /// Runs a flow within this one. A boxed future: it contains one of its own kind.
    fn inner(self: Arc<Self>, name: &str, path: &str, request: StoredRequest) -> InnerFlow {
        let flow = self.plan.flows.get(name).cloned();
        let (path, level) = (path.to_owned(), FlowLevel { prefix: format!("{path}/"), request });
        Box::pin(async move {
            // The plan has all of them.
            let flow = flow.ok_or_else(|| FlowFailure::Step(Box::new(broken(&path))))?;
            match self.flow(flow, level).await {
                Ok(value) => Ok(Ok((200, value))),
                Err(FlowFailure::Step(failed)) => Ok(Err(failed)),
                Err(other) => Err(other),
            }
        })
    }

    /// The request of a step.
    fn request_of(
        &self,
        step: &FlowStep,
        level: &FlowLevel,
        view: Option<String>,
    ) -> StoredRequest {
        let Some(view) = view else {
            let mut request = level.request.clone();
            if let Some(path) = &step.path {
                request.target.clone_from(path);
            }
            return request;
        };
        let about_body =
            |name: &str| name == "content-type" || name.starts_with("content-") || name == "expect";
        let own = level.request.fields.0.iter().filter(|(name, _)| !about_body(name)).cloned();
        let json = ("content-type".to_owned(), b"application/json".to_vec());
        StoredRequest {
            method: "POST".to_owned(),
            target: step.path.clone().unwrap_or_else(|| "/".to_owned()),
            fields: StoredFields(own.chain([json]).collect()),
            body: view.into_bytes(),
        }
    }

    /// Calls the function of a step.
    async fn call(&self, step: &FlowStep, path: &str, mut request: StoredRequest) -> StepEnded {
        let function = step.function.as_deref().unwrap_or_default();
        let failed = |status, end, why| {
            let (path, target) = (path.to_owned(), function.to_owned());
            Box::new(FailedStep { path, target, status, end, why })
        };
        let entry = match self.target(function, step.channel.as_deref()) {
            Ok(entry) => entry,
            Err(problem) => {
                return Err(failed(404, AttemptEnd::Final, FailedWhy::Problem(problem)));
            }
        };
        let params = params(&self.request).to_string();
        for (name, value) in [(FLOW, &*self.plan.name), (STEP, path), (FLOW_PARAMS, &params)] {
            request.fields.0.push((name.to_owned(), value.as_bytes().to_vec()));
        }
        let id = step_id(&self.id, path);
        let call = queued_call::request(&request, (&id, self.attempt), &self.origin);
        let Some(mut call) = call else {
            let problem = Problem::bad_target();
            return Err(failed(400, AttemptEnd::Final, FailedWhy::Problem(problem)));
        };
        self.bound(&mut call, step);
        // One byte more, so that an answer that is too large is noticed.
        let most = self.parts.state_bytes.saturating_add(1);
        match self.parts.functions.answer(&entry, call, most).await {
            Err(Unanswered { end, problem }) => {
                let status = problem.status_code();
                Err(failed(status, end, FailedWhy::Problem(*problem)))
            }
            Ok(StoredAnswer { status, fields, body, cut }) => {
                if cut || body.len() >= most {
                    let problem = too_large(self.parts.state_bytes);
                    return Err(failed(502, AttemptEnd::Final, FailedWhy::Problem(problem)));
                }
                let content_type = text_of(&fields, "content-type");
                let value = StateValue::of(content_type, body.into());
                match status {
                    400.. => Err(failed(status, of_status(status), FailedWhy::Answer(value))),
                    _ => Ok((status, value)),
                }
            }
        }
    }

    /// The time of a call is the step's, or what is left of the run's.
    fn bound(&self, call: &mut FunctionCall, step: &FlowStep) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let own = step.timeout_ms.map_or(left, Duration::from_millis);
        call.context.timeout = Some(own.min(left).max(Duration::from_millis(1)));
        if let Some(others) = self.others {
            call.context.others = others;
        }
    }

    fn target(&self, function: &str, channel: Option<&str>) -> Result<Arc<CatalogEntry>, Problem> {
        let catalog = &self.parts.catalog;
        let entry = catalog.get(&self.tenant, function);
        let entry = entry.ok_or_else(|| Problem::function_not_found(function))?;
        match channel {
            None | Some(store::DEFAULT_CHANNEL) => Ok(entry),
            Some(channel) => catalog
                .channel(&self.tenant, function, channel)
                .ok_or_else(|| Problem::channel_not_found(function, channel)),
        }
    }
}

/// What a step sees of the state; `None` if it gets the request of its flow.
fn view(
    state: &FlowState,
    step: &FlowStep,
    is_first: bool,
) -> Result<Option<String>, StateTooLarge> {
    if is_first && step.with.is_empty() {
        return Ok(None);
    }
    state.view(&step.with).map(Some)
}

/// What happens after an error of a step.
fn action(step: &FlowStep, status: u16) -> ErrorAction {
    let on_error = &step.on_error;
    let code = on_error.codes.get(&status.to_string());
    code.or(on_error.other.as_ref()).or(on_error.any.as_ref()).copied().unwrap_or_default()
}

/// The named segments of the route by which a request came.
fn params(request: &StoredRequest) -> Value {
    let named = request.fields.0.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(PARAM_PREFIX)?;
        Some((name.to_owned(), String::from_utf8_lossy(value).into()))
    });
    Value::Object(named.collect::<Map<_, _>>())
}

fn field(request: &StoredRequest, name: &str) -> Option<String> {
    text_of(&request.fields, name)
}

fn text_of(fields: &StoredFields, name: &str) -> Option<String> {
    let found = fields.0.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

/// The answer of a step is larger than a state may be.
pub(super) fn too_large(most: usize) -> Problem {
    Problem::new(&table::FLOW_STATE_TOO_LARGE)
        .detail(format!("the answers of all steps together have at most {most} bytes"))
        .hint("Have the steps answer with less. The operator can raise `flows.state_bytes`.")
}

/// A step that a fault of ours has ended. It was logged.
fn broken(path: &str) -> FailedStep {
    FailedStep {
        path: path.to_owned(),
        target: String::new(),
        status: 500,
        end: AttemptEnd::Failed,
        why: FailedWhy::Problem(Problem::broken()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Case W04.
    #[test]
    fn what_happens_after_an_error_is_the_code_s_then_that_of_others() {
        let step = |on_error: Value| -> FlowStep {
            serde_json::from_value(json!({"function": "f", "on_error": on_error})).unwrap()
        };
        use ErrorAction::{Continue, Return};
        for (on_error, of_404, of_500) in [
            (json!({}), Return, Return),
            (json!({"any": "continue"}), Continue, Continue),
            (json!({"any": "return"}), Return, Return),
            (json!({"codes": {"404": "continue"}}), Continue, Return),
            (json!({"codes": {"404": "return"}, "other": "continue"}), Return, Continue),
            (json!({"codes": {"404": "continue"}, "other": "return"}), Continue, Return),
        ] {
            let step = step(on_error.clone());
            assert_eq!((action(&step, 404), action(&step, 500)), (of_404, of_500), "{on_error}");
        }
    }

    /// Case W03.
    #[test]
    fn the_named_segments_of_a_route_are_an_object() {
        let fields = [("mayfly-param-id", "7"), ("mayfly-route", "r"), ("mayfly-param-x", "é")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        let request =
            StoredRequest { fields: StoredFields(fields.into()), ..StoredRequest::default() };
        assert_eq!(params(&request), json!({"id": "7", "x": "é"}));
    }
}
