//! Lists that are read a page at a time.

use serde::Deserialize;
use serde_json::Value;

/// The part that all lists have in common, for clients that follow a list to its end.
#[derive(Debug, Default, Deserialize)]
pub struct NextCursor {
    /// The cursor of the next page: text or a number; null on the last page.
    #[serde(default)]
    pub next_cursor: Value,
}
