//! `[uploads]` and `[quotas]`: limits for one artifact, and for all of them.

use runtime_pool::ArtifactLimits;
use serde::{Deserialize, Serialize};

use crate::config::sizes::{GIB, MIB};

/// Limits for one artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadsSection {
    /// Size of one artifact.
    pub artifact_bytes: u64,
    /// Limits on its content.
    #[serde(flatten)]
    pub artifact: ArtifactLimits,
}

impl Default for UploadsSection {
    fn default() -> Self {
        Self { artifact_bytes: 50 * MIB, artifact: ArtifactLimits::default() }
    }
}

/// Limits for everything that is deployed on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotasSection {
    /// Functions.
    pub functions: usize,
    /// Bytes of all artifacts.
    pub artifact_bytes: u64,
    /// Revisions of one function. The oldest inactive ones are removed.
    pub revisions_per_function: usize,
    /// Channels of one function.
    pub channels_per_function: usize,
    /// Routes.
    pub routes: usize,
    /// Schedules.
    pub schedules: usize,
    /// Named queues.
    pub queues: usize,
    /// The settings of one function as JSON, without its environment.
    pub settings_bytes: usize,
    /// The settings and environments of all functions: they are kept in memory.
    pub all_settings_bytes: u64,
    /// Bytes of native code on the disk. What was not used for longest is removed.
    pub code_bytes: u64,
    /// Compilations that deploys may start in a minute.
    pub compiles_per_minute: usize,
    /// Revisions, descriptions and activations in a minute.
    pub changes_per_minute: usize,
    /// Responses to uploads that are kept for a day under their `idempotency-key`.
    pub idempotency_keys: usize,
}

impl Default for QuotasSection {
    fn default() -> Self {
        Self {
            // Ten times the largest number that was measured on one node.
            functions: 100_000,
            artifact_bytes: 100 * GIB,
            // Enough to go back to what ran weeks ago.
            revisions_per_function: 100,
            // More than stages and customers of one function.
            channels_per_function: 32,
            // Their table takes a few megabytes.
            routes: 10_000,
            // Some hundred bytes of memory each.
            schedules: 10_000,
            // The worker looks at each that has messages.
            queues: 1_000,
            // Several times what 64 hosts and 64 credentials take.
            settings_bytes: 64 << 10,
            all_settings_bytes: 256 * MIB,
            code_bytes: 100 * GIB,
            // About as many of the smallest functions as one core compiles.
            compiles_per_minute: 600,
            changes_per_minute: 600,
            // They take a few megabytes.
            idempotency_keys: 10_000,
        }
    }
}
