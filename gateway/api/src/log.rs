//! Log lines of functions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::StreamWord;

/// Lines of a function's log, the oldest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// The lines.
    pub lines: Vec<LineView>,
    /// The cursor for the lines after these; null if there are no lines yet.
    pub next_cursor: Option<i64>,
}

/// One line.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LineView {
    /// Its position in the log.
    pub cursor: i64,
    /// When the gateway received it (RFC 3339).
    #[schema(format = DateTime)]
    pub time: String,
    /// The `mayfly-request-id` of the invocation's response.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    pub invocation: String,
    /// The revision that ran.
    pub revision: u32,
    /// `stdout`, `stderr`, or `system` for messages of the platform.
    #[schema(value_type = StreamWord)]
    pub stream: String,
    /// The text, with control characters and unseen ones escaped.
    pub line: String,
}
