//! Flows: functions that are called one after the other, or at once, over one state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{FlowOutcomeWord, InvocationWord, StepOutcomeWord, whole};

/// What a flow does. Its state is a JSON object: it begins with `input`, the body of the request, and
/// `params`, the named segments of its route; each step adds its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowSpec {
    /// The steps, one after the other.
    #[schema(min_items = 1, max_items = 32)]
    pub steps: Vec<FlowStep>,
    /// The key of the answer that is the flow's; without it, that of the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// The time for a run, or for one attempt of an asynchronous one, in milliseconds.
    #[serde(default = "timeout_ms", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 3_600_000, default = 30_000)]
    pub timeout_ms: u64,
    /// Attempts of an asynchronous run, the first included. Each goes on at the step that has failed.
    #[serde(default = "attempts", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 1_000, default = 3)]
    pub attempts: u32,
    /// Seconds after which an asynchronous run that has not succeeded is given up.
    #[serde(default = "max_age_s", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 1_209_600, default = 21_600)]
    pub max_age_s: u32,
    /// Asynchronous runs at once.
    #[serde(default = "concurrency", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 256, default = 8)]
    pub concurrency: u32,
}

fn timeout_ms() -> u64 {
    30_000
}

fn attempts() -> u32 {
    3
}

fn max_age_s() -> u32 {
    21_600
}

fn concurrency() -> u32 {
    8
}

/// A step of a flow. It has exactly one of `function`, `flow` and `group`; the other members go with the
/// first two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FlowStep {
    /// The function that is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The channel of the function; without it, the function itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The path of the request, and its query if there is one. Without it, `/`; the first step gets that of
    /// the flow's request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_048)]
    pub path: Option<String>,
    /// The flow that runs as a step of this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// Steps that run at once. They see the state before any of them. None of them is a group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion, max_items = 16)]
    pub group: Vec<FlowStep>,
    /// The key of the answer in the state; without it, the name of the function or flow.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 63)]
    pub key: Option<String>,
    /// What the step sees: names, each with the key of the state, or a place below it (`user/address/city`).
    /// Without any, it sees all of the state, and the first step the flow's request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub with: BTreeMap<String, String>,
    /// What happens after an error, which is a status of 400 or more, or no answer.
    #[serde(skip_serializing_if = "OnError::is_default")]
    pub on_error: OnError,
    /// The time for the step in milliseconds, if it is less than the function's.
    #[serde(deserialize_with = "whole::optional", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3_600_000)]
    pub timeout_ms: Option<u64>,
}

/// What happens after an error of a step: either `any`, or `codes` and `other`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnError {
    /// After each error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<ErrorAction>,
    /// After an error with this status, from 400 to 599.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub codes: BTreeMap<String, ErrorAction>,
    /// After each other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<ErrorAction>,
}

impl OnError {
    /// Whether it is that of a step that says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens after an error: `return`: the flow ends with it; `continue`: the state gets its status as `code`
/// and its text as `message`, and the flow goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErrorAction {
    /// The flow ends with it.
    #[default]
    Return,
    /// The flow goes on.
    Continue,
}

/// A flow.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FlowView {
    /// Unique within its tenant.
    #[schema(example = "checkout")]
    pub name: String,
    /// What it does.
    pub flow: FlowSpec,
    /// Asynchronous runs that wait.
    pub waiting: u64,
    /// Asynchronous runs that go on.
    pub running: u64,
    /// Asynchronous runs that have failed for good.
    pub dead: u64,
    /// The last runs whose clients waited, the newest first; empty in a list of flows, and after a start.
    pub recent: Vec<FlowRunView>,
    /// When it was first set (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last set (RFC 3339).
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// A page of flows.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FlowsView {
    /// Ordered by name.
    pub flows: Vec<FlowView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A run of a flow whose client waited for it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FlowRunView {
    /// Its id, of which the ids of its steps are made.
    pub id: String,
    /// When it began (RFC 3339).
    #[schema(format = DateTime)]
    pub started_at: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How it ended: `ok`, `error` (a step has failed), `timeout` or `too-large`.
    #[schema(value_type = FlowOutcomeWord, example = "ok")]
    pub outcome: String,
    /// Its steps, in the order in which they ended.
    pub steps: Vec<FlowStepView>,
}

/// A step of a run.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FlowStepView {
    /// Its place: `0` is the first step, `1.2` the third of a group, `1/0` the first of a flow within a flow.
    #[schema(example = "1.2")]
    pub step: String,
    /// The function or the flow.
    pub target: String,
    /// The id that the function sees as `idempotency-key`, the same in each attempt.
    pub id: String,
    /// How it ended: `done`, `continued` (after an error) or `failed`.
    #[schema(value_type = StepOutcomeWord, example = "done")]
    pub outcome: String,
    /// Which attempt of the run it was.
    pub attempt: u32,
    /// The status of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it began (RFC 3339).
    #[schema(format = DateTime)]
    pub started_at: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A run that is to be started.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StartFlow {
    /// The body of its request.
    #[schema(value_type = Object)]
    pub input: serde_json::Value,
    /// A name for the run: another one of the same name is not started, as long as this one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    pub idempotency_key: Option<String>,
}

/// A run that was started: it is on the disk.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StartedFlow {
    /// Its id, which is that of an invocation.
    pub id: String,
    /// Whether an earlier run of this `idempotency_key` is there, whose id this is.
    pub repeated: bool,
    /// Where the data plane tells how far it is.
    pub location: String,
}

/// An asynchronous run.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DurableRunView {
    /// Its id.
    pub id: String,
    /// How far it is: `due`, `running`, `succeeded`, `dead` or `cancelled`.
    #[schema(value_type = InvocationWord, example = "succeeded")]
    pub state: String,
    /// How many attempts have begun.
    pub attempts: u32,
    /// When it was started (RFC 3339), or last redriven.
    pub created_at: String,
    /// When it goes on.
    pub due_at: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Why the last attempt has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The status of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Its steps so far, in the order in which they ended; empty in a list of runs.
    pub steps: Vec<FlowStepView>,
}

/// A page of asynchronous runs, the newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DurableRunsView {
    /// The runs.
    pub runs: Vec<DurableRunView>,
    /// The cursor of the next page, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
