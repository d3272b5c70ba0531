//! Errors, as clients read them.

use serde::Deserialize;

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
}
