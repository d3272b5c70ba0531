//! What a function is called in here.

/// Names a revision of a function. Opaque here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FunctionKey {
    /// The function.
    pub function: i64,
    /// Its revision.
    pub revision: u32,
}
