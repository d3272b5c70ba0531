//! `[uploads]` and `[quotas]`: limits for one artifact, and for all of them.

use runtime_pool::ArtifactLimits;
use serde::{Deserialize, Serialize};

use crate::config::sizes::{GIB, MIB};

/// Limits for one upload: an artifact, or the files that a function is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadsSection {
    /// Size of one artifact.
    pub artifact_bytes: u64,
    /// Files and directories of one tree.
    pub files: usize,
    /// Bytes of all files of one tree.
    pub files_bytes: u64,
    /// Bytes of one file of a tree.
    pub file_bytes: u64,
    /// Bytes of the path of a file in its tree.
    pub file_path_bytes: usize,
    /// Names in the path of a file.
    pub file_depth: usize,
    /// Limits on its content.
    #[serde(flatten)]
    pub artifact: ArtifactLimits,
}

impl Default for UploadsSection {
    fn default() -> Self {
        Self {
            artifact_bytes: 50 * MIB,
            // An interpreter with its library has some thousands.
            files: 10_000,
            files_bytes: 256 * MIB,
            file_bytes: 128 * MIB,
            // Well below that of Linux, so that programs can put something before it.
            file_path_bytes: 1_024,
            file_depth: 32,
            artifact: ArtifactLimits::default(),
        }
    }
}

/// Limits for everything that is deployed on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotasSection {
    /// Functions.
    pub functions: usize,
    /// Bytes of all artifacts, and of the files that are given to functions.
    pub artifact_bytes: u64,
    /// Different files that are given to functions.
    pub files: usize,
    /// Revisions of one function. The oldest inactive ones are removed.
    pub revisions_per_function: usize,
    /// Channels of one function.
    pub channels_per_function: usize,
    /// Routes.
    pub routes: usize,
    /// Certificates of hosts.
    pub certificates: usize,
    /// Schedules.
    pub schedules: usize,
    /// Named queues.
    pub queues: usize,
    /// Flows.
    pub flows: usize,
    /// Stores of guests' data.
    pub stores: usize,
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
            // Fewer than a file system has inodes.
            files: 1_000_000,
            // Enough to go back to what ran weeks ago.
            revisions_per_function: 100,
            // More than stages and customers of one function.
            channels_per_function: 32,
            // Their table takes a few megabytes.
            routes: 10_000,
            // Some kilobytes of memory each.
            certificates: 1_000,
            // Some hundred bytes of memory each.
            schedules: 10_000,
            // The worker looks at each that has messages.
            queues: 1_000,
            // They are kept in memory, at most 64 KiB each, mostly a hundredth of that.
            flows: 1_000,
            // Some hundred bytes of memory each.
            stores: 1_000,
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
