//! The parts of the API's answers that are shown as text.
//!
//! Every field may be missing: a client should get along with a gateway of another version.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::sizes;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FunctionView {
    pub(crate) name: String,
    pub(crate) revision: u64,
    pub(crate) digest: String,
    pub(crate) kind: String,
    pub(crate) bytes: u64,
    pub(crate) url: String,
    pub(crate) description: Option<String>,
    pub(crate) state: String,
    pub(crate) settings: Map<String, Value>,
    pub(crate) limits: Map<String, Value>,
    pub(crate) snapshot: Option<SnapshotView>,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SnapshotView {
    pub(crate) taken: bool,
    pub(crate) init_ms: u64,
    pub(crate) bytes: u64,
    pub(crate) reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FunctionPage {
    pub(crate) functions: Vec<FunctionView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RevisionView {
    pub(crate) revision: u64,
    pub(crate) digest: String,
    pub(crate) kind: String,
    pub(crate) bytes: u64,
    pub(crate) created_at: String,
    pub(crate) active: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RevisionPage {
    pub(crate) revisions: Vec<RevisionView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LogLine {
    pub(crate) cursor: Value,
    pub(crate) time: String,
    pub(crate) stream: String,
    pub(crate) line: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LogPage {
    pub(crate) lines: Vec<LogLine>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TokenView {
    pub(crate) id: Value,
    pub(crate) name: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) created_at: String,
    pub(crate) expires_at: Option<String>,
    pub(crate) revoked_at: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TokenPage {
    pub(crate) tokens: Vec<TokenView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SecretView {
    pub(crate) name: String,
    pub(crate) hosts: Vec<String>,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SecretPage {
    pub(crate) secrets: Vec<SecretView>,
}

/// The one answer that holds a token, so it has no `Debug`.
#[derive(Deserialize)]
pub(crate) struct NewToken {
    pub(crate) id: Value,
    pub(crate) token: String,
    #[serde(default)]
    pub(crate) expires_at: Option<String>,
}

/// Where the next page begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Next {
    pub(crate) next_cursor: Value,
}

/// An error (RFC 9457).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) title: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) request_id: Option<String>,
}

impl SnapshotView {
    /// What became of it, in a line.
    pub(crate) fn describe(&self) -> String {
        if self.taken {
            let size = sizes::format(self.bytes);
            format!("taken: {} ms of start-up spared, {size} of memory", self.init_ms)
        } else {
            format!("not taken: {}", self.reason)
        }
    }
}

/// A value as text: a string without its quotes, anything else as JSON, nothing as `None`.
pub(crate) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
