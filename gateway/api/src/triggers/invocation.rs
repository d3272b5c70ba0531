//! Calls that wait to be made, and what became of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CauseWord, InvocationWord};

/// A call that was enqueued.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InvocationView {
    /// The id. Its function sees it as `idempotency-key`.
    pub id: String,
    /// The name of the function; empty for a message of a queue and a run of a flow.
    pub function: String,
    /// The channel that it goes to, unless that is `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The revision that it goes to, if it goes to no channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// What caused it: `http`, `schedule`, `queue`, `flow` or `callback`.
    #[schema(value_type = CauseWord, example = "http")]
    pub cause: String,
    /// The route, schedule, queue or flow that it came through, or the call that it tells about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How far it is: `due`, `running`, `succeeded`, `dead` or `cancelled`.
    #[schema(value_type = InvocationWord, example = "dead")]
    pub state: String,
    /// How many attempts have begun.
    pub attempts: u32,
    /// When it was made (RFC 3339), or last run again after it was dead.
    pub created_at: String,
    /// When it may run.
    pub due_at: String,
    /// When it is given up.
    pub expires_at: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Why the last attempt has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The status of the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The id of the last attempt, as logs name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What was sent. Not in lists; its body and the values of its fields only for tokens that may
    /// deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<SentView>,
    /// The last answer. Not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnsweredView>,
}

/// What a call sends.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SentView {
    /// The method.
    pub method: String,
    /// The path and the query, as the function sees them.
    pub target: String,
    /// The header fields. Credentials are hidden.
    pub headers: BTreeMap<String, String>,
    /// The bytes of the body. A call that has succeeded keeps none.
    pub body_bytes: u64,
    /// The body, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in Base64, if it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// The answer of a function to a call that was enqueued.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AnsweredView {
    /// The status.
    #[schema(minimum = 100, maximum = 999)]
    pub status: u16,
    /// Some of the header fields. Cookies are not among them.
    pub headers: BTreeMap<String, String>,
    /// The body, or its first 64 KiB, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The same in Base64, if it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Whether the body was longer.
    pub truncated: bool,
}

/// A page of calls, the newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InvocationsView {
    /// The calls.
    pub invocations: Vec<InvocationView>,
    /// The cursor of the next page, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// How many calls were changed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangedInvocationsView {
    /// Their number.
    pub count: u64,
}

/// A call, as the holder of its id sees it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InvocationStatusView {
    /// The id.
    pub id: String,
    /// How far it is: `due`, `running`, `succeeded`, `dead` or `cancelled`.
    #[schema(value_type = InvocationWord, example = "succeeded")]
    pub state: String,
    /// How many attempts have begun.
    pub attempts: u32,
    /// Where to ask again.
    pub location: String,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Why the last attempt has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The answer, when the call has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnsweredView>,
}
