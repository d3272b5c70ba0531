//! The name of a deployed artifact, and the kind of guest that it is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The SHA-256 of a wasm binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArtifactDigest(pub [u8; 32]);

/// The kind of a wasm binary. Its exports decide it, and it decides how the binary runs.
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
    /// A component that exports `wasi:cli/run@0.3.x`. Runs likewise, on the concurrent engine.
    #[serde(rename = "wasi-command-0.3")]
    WasiCommand03,
    /// A core module for `wasi_snapshot_preview1` that exports `_start`. Runs as a command does.
    #[serde(rename = "wasi-preview1")]
    WasiPreview1,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::WasiHttp02,
        Self::WasiHttp03,
        Self::WasiCommand,
        Self::WasiCommand03,
        Self::WasiPreview1,
    ];

    /// The name used in the API, in metrics and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WasiHttp02 => "wasi-http-0.2",
            Self::WasiHttp03 => "wasi-http-0.3",
            Self::WasiCommand => "wasi-command",
            Self::WasiCommand03 => "wasi-command-0.3",
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
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or(UnknownKind)
    }
}

/// The text does not name a kind of guest that this version can run.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("unknown kind of guest")]
pub struct UnknownKind;
