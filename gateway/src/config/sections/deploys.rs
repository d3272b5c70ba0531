//! `[uploads]` and `[quotas]`: what may be deployed, and how much of it.

use runtime_pool::ArtifactLimits;
use serde::{Deserialize, Serialize};

use crate::config::sizes::{GIB, MIB};

/// What may be deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadsSection {
    /// Size of one artifact.
    pub artifact_bytes: u64,
    /// What one artifact may hold.
    #[serde(flatten)]
    pub artifact: ArtifactLimits,
}

impl Default for UploadsSection {
    fn default() -> Self {
        Self { artifact_bytes: 50 * MIB, artifact: ArtifactLimits::default() }
    }
}

/// How much may be deployed on this node, by all owners together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotasSection {
    /// Functions.
    pub functions: usize,
    /// Bytes of all artifacts.
    pub artifact_bytes: u64,
    /// Compilations that deploys may begin within a minute.
    pub compiles_per_minute: usize,
    /// Answered uploads that are remembered for a day by their `idempotency-key`.
    pub idempotency_keys: usize,
}

impl Default for QuotasSection {
    fn default() -> Self {
        Self {
            // Ten times what has been measured on one node.
            functions: 100_000,
            artifact_bytes: 100 * GIB,
            // About what one core compiles of the smallest functions.
            compiles_per_minute: 600,
            // A few megabytes.
            idempotency_keys: 10_000,
        }
    }
}
