//! Revisions of a function.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{KindWord, SettingsView};

/// One immutable deployment of a function.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RevisionView {
    /// Counts up from 1 within a function.
    pub revision: u32,
    /// The SHA-256 of the artifact.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    pub digest: String,
    /// How it runs.
    #[schema(value_type = KindWord)]
    pub kind: String,
    /// Size of the artifact.
    pub bytes: u64,
    /// The settings that its owner has chosen.
    pub settings: SettingsView,
    /// Whether it is the revision that answers requests.
    pub active: bool,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// A page of revisions.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RevisionsView {
    /// The newest first.
    pub revisions: Vec<RevisionView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}
