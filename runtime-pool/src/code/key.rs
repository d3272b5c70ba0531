//! Names of native code.

use std::sync::Arc;

use crate::code::artifact::ArtifactDigest;

/// Names native code by the artifact, and by the start-up function that ran before compilation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CodeKey {
    pub(crate) digest: ArtifactDigest,
    /// The start-up function whose effects every instance is to have.
    pub(crate) start_up: Option<StartUp>,
}

/// A start-up function to run before compilation. Native code after it differs from native code
/// without it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StartUp {
    /// The name of the export to call.
    pub(crate) function: Arc<str>,
    /// Linear memory that it may use: the limit of an instance.
    pub(crate) memory_bytes: u64,
}
