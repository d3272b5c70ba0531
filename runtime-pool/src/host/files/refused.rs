//! What a guest is told when an operation on its files fails.

/// Why an operation was refused, in the words of POSIX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{self:?}")]
pub(super) enum PosixRefusal {
    BadDescriptor,
    /// A file cannot be moved from one directory that guests begin in to the other.
    CrossDevice,
    Exists,
    FileTooLarge,
    IllegalBytes,
    Invalid,
    /// The disk failed, or a file on it was damaged.
    Io,
    IsDirectory,
    NameTooLong,
    NoEntry,
    NoSpace,
    NotDirectory,
    NotEmpty,
    /// A path leads out of the directory, or a link is asked for.
    NotPermitted,
    Overflow,
    ReadOnly,
    TooManyOpen,
    Unsupported,
}

/// Why an operation does not succeed.
pub(super) enum CallFailure {
    /// The guest is told.
    PosixRefusal(PosixRefusal),
    /// The guest is ended: it passed an address outside of its memory, or has too many resources.
    Trap(wasmtime::Error),
}

impl From<PosixRefusal> for CallFailure {
    fn from(refused: PosixRefusal) -> Self {
        Self::PosixRefusal(refused)
    }
}
