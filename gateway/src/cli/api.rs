//! The parts of the API's answers that are shown as text.
//!
//! Every field may be missing: a client should get along with a gateway of another version.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::sizes;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FunctionView {
    pub(super) name: String,
    pub(super) revision: u64,
    pub(super) digest: String,
    pub(super) kind: String,
    pub(super) bytes: u64,
    pub(super) url: String,
    pub(super) description: Option<String>,
    pub(super) state: String,
    pub(super) settings: Map<String, Value>,
    pub(super) limits: Map<String, Value>,
    pub(super) snapshot: Option<SnapshotView>,
    pub(super) created_at: String,
    pub(super) updated_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SnapshotView {
    pub(super) taken: bool,
    pub(super) init_ms: u64,
    pub(super) bytes: u64,
    pub(super) reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FunctionPage {
    pub(super) functions: Vec<FunctionView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RevisionView {
    pub(super) revision: u64,
    pub(super) digest: String,
    pub(super) kind: String,
    pub(super) bytes: u64,
    pub(super) created_at: String,
    pub(super) active: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RevisionPage {
    pub(super) revisions: Vec<RevisionView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LogLine {
    pub(super) cursor: Value,
    pub(super) time: String,
    pub(super) stream: String,
    pub(super) line: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LogPage {
    pub(super) lines: Vec<LogLine>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenView {
    pub(super) id: Value,
    pub(super) name: String,
    pub(super) scopes: Vec<String>,
    pub(super) created_at: String,
    pub(super) expires_at: Option<String>,
    pub(super) revoked_at: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenPage {
    pub(super) tokens: Vec<TokenView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SecretView {
    pub(super) name: String,
    pub(super) hosts: Vec<String>,
    pub(super) created_at: String,
    pub(super) updated_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SecretPage {
    pub(super) secrets: Vec<SecretView>,
}

/// The one answer that holds a token, so it has no `Debug`.
#[derive(Deserialize)]
pub(super) struct NewToken {
    pub(super) id: Value,
    pub(super) token: String,
    #[serde(default)]
    pub(super) expires_at: Option<String>,
}

/// Where the next page begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Next {
    pub(super) next_cursor: Value,
}

/// An error (RFC 9457).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) title: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
    pub(super) request_id: Option<String>,
}

impl SnapshotView {
    /// What became of it, in a line.
    pub(super) fn describe(&self) -> String {
        if self.taken {
            let size = sizes::format(self.bytes);
            format!("taken: {} ms of start-up spared, {size} of memory", self.init_ms)
        } else {
            format!("not taken: {}", self.reason)
        }
    }
}

/// A value as text: a string without its quotes, anything else as JSON, nothing as `None`.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
