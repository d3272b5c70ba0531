//! Limits on the content of one artifact.

use serde::{Deserialize, Serialize};

/// Limits on the content of one artifact, nested modules included. The compile worker checks all of
/// these limits, and the engines enforce the last three once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArtifactLimits {
    /// Functions.
    pub functions: u32,
    /// Data segments.
    pub data_segments: u32,
    /// Element segments.
    pub element_segments: u32,
    /// Imports of the outermost component or module.
    pub imports: u32,
    /// Exports of the outermost component or module.
    pub exports: u32,
    /// Core instances.
    pub core_instances: u32,
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
}

impl Default for ArtifactLimits {
    fn default() -> Self {
        Self {
            functions: 100_000,
            // The most that the validator allows. A hello in Go has 24,201, one with net/http 66,212.
            data_segments: 100_000,
            element_segments: 50_000,
            imports: 1_000,
            exports: 1_000,
            // Python components hold several dozen.
            core_instances: 64,
            memories: 4,
            tables: 16,
        }
    }
}
