//! What a deployed artifact is called and what sort of guest it is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The SHA-256 of a wasm binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArtifactDigest(pub [u8; 32]);

/// What one artifact may hold, counted over everything inside it. The check in the compile worker
/// holds it to all of them, the engines to the last three.
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
            // A hello in Go has 24,201. Compiling this many takes about a gigabyte, a third of what
            // the worker may have.
            data_segments: 50_000,
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

/// What a wasm binary exports, hence how it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A component that exports `wasi:http/incoming-handler@0.2.x`.
    #[serde(rename = "wasi-http-0.2")]
    WasiHttp02,
    /// A component that exports `wasi:http/handler@0.3.x`. Runs on the concurrent engine.
    #[serde(rename = "wasi-http-0.3")]
    WasiHttp03,
    /// A component that exports `wasi:cli/run@0.2.x`. Runs once per request, by CGI conventions.
    #[serde(rename = "wasi-command")]
    WasiCommand,
    /// A core module for `wasi_snapshot_preview1` that exports `_start`. Runs as a command does.
    #[serde(rename = "wasi-preview1")]
    WasiPreview1,
}

impl Kind {
    /// The name used in the API, in metrics and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WasiHttp02 => "wasi-http-0.2",
            Self::WasiHttp03 => "wasi-http-0.3",
            Self::WasiCommand => "wasi-command",
            Self::WasiPreview1 => "wasi-preview1",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        [Self::WasiHttp02, Self::WasiHttp03, Self::WasiCommand, Self::WasiPreview1]
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or(UnknownKind)
    }
}

/// The text names no kind of guest that this version can run.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("unknown kind of guest")]
pub struct UnknownKind;
