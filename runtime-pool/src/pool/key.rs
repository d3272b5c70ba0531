//! What a function, and its native code, are called in here.

use crate::code::{artifact::ArtifactDigest, snapshot::StartUp};

/// Names a revision of a function under the limits that hold. Opaque here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FunctionKey {
    /// The function.
    pub function: i64,
    /// Its revision.
    pub revision: u32,
    /// How often the limits had changed that it is held to besides its own settings.
    pub generation: u32,
}

/// Names native code: what it was made from, and what was done before it was compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CodeKey {
    pub(crate) digest: ArtifactDigest,
    /// The start-up that every instance is to have behind it.
    pub(crate) start_up: Option<StartUp>,
}
