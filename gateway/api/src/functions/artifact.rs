//! Artifacts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An artifact that is stored.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    /// Its SHA-256, by which a manifest names it.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    pub digest: String,
    /// Its size.
    pub bytes: u64,
}
