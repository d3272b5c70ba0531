//! What a guest is told when an operation on its files fails.

/// Why an operation was refused, in the words of POSIX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{self:?}")]
pub(super) enum Refused {
    BadDescriptor,
    Exists,
    FileTooLarge,
    IllegalBytes,
    Invalid,
    IsDirectory,
    NameTooLong,
    NoEntry,
    NoSpace,
    NotDirectory,
    NotEmpty,
    /// A path leads out of the directory, or a link is asked for.
    NotPermitted,
    Overflow,
    TooManyOpen,
    Unsupported,
}
