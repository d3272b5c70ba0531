//! Names of native code.

use std::sync::Arc;

use crate::code::artifact::ArtifactDigest;

/// Names native code: what it was made from, and what was done before it was compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CodeKey {
    pub(crate) digest: ArtifactDigest,
    /// The start-up that every instance is to have behind it.
    pub(crate) start_up: Option<StartUp>,
}

/// What is asked for: native code with this start-up behind it is other native code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StartUp {
    /// The name of the export that is to be called.
    pub(crate) function: Arc<str>,
    /// Linear memory that it may use: what an instance may have.
    pub(crate) memory_bytes: u64,
}
