//! The parts of answers that clients read whatever they asked for: a problem, the next page.

use serde::Deserialize;
use serde_json::Value;

use crate::MistakeView;

/// The members of a problem document (RFC 9457) that clients show. Each may be missing: the answer
/// can come from a proxy in front of the gateway.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProblemView {
    /// The kind of problem, for people.
    pub title: String,
    /// The details of this occurrence.
    pub detail: Option<String>,
    /// A way to solve it.
    pub hint: Option<String>,
    /// Identifies the request in logs.
    pub request_id: Option<String>,
    /// What is wrong with a manifest, and where.
    pub mistakes: Vec<MistakeView>,
}

/// The part that all lists have in common, for clients that follow a list to its end.
#[derive(Debug, Default, Deserialize)]
pub struct NextCursor {
    /// The cursor of the next page: text or a number; null on the last page.
    #[serde(default)]
    pub next_cursor: Value,
}
