//! Why an operation on a store has failed.

/// Why an operation on a store has failed. Each interface has errors of its own, which are made of these.
/// A text is shown to guests: it names no host, no path and nothing of another owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The store was deleted.
    #[error("there is no such store")]
    NoStore,
    /// No grant allows it.
    #[error("no grant of this function allows it")]
    Denied,
    /// The guest has asked for something that has no meaning.
    #[error("{0}")]
    Invalid(String),
    /// One thing is too large.
    #[error("{what} is larger than {most} bytes")]
    TooLarge {
        /// What: a key, a value.
        what: &'static str,
        /// The bytes that it may have.
        most: u64,
    },
    /// The store would have more than it may.
    #[error("quota: the store may have {most} {what}")]
    Quota {
        /// What: bytes, keys.
        what: &'static str,
        /// How many there may be.
        most: u64,
    },
    /// More operations at once, or in a second, than a function may have.
    #[error("too many operations a second")]
    Rate,
    /// More operations than one invocation may have.
    #[error("too many operations in this invocation: {most} are allowed")]
    TooMany {
        /// How many it may have.
        most: u64,
    },
    /// More handles at once than one invocation may have.
    #[error("too many handles are open: {most} are allowed")]
    Handles {
        /// How many it may have.
        most: u64,
    },
    /// More bytes of operations at once than the host keeps for one invocation.
    #[error("the operations at once have more bytes than the host keeps for an invocation: {most}")]
    HostBytes {
        /// The bytes that it keeps.
        most: u64,
    },
    /// More operations wait for the store than it takes.
    #[error("the store is busy")]
    Busy,
    /// The store did not answer in time.
    #[error("the store did not answer in time")]
    Timeout,
    /// The store does not work. The reason is in the gateway's log.
    #[error("the store is not available")]
    Unavailable,
}

impl Refused {
    /// Whether the store has failed, and not what was asked for.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Busy | Self::Timeout | Self::Unavailable => true,
            Self::NoStore
            | Self::Denied
            | Self::Invalid(_)
            | Self::TooLarge { .. }
            | Self::Quota { .. }
            | Self::Rate
            | Self::TooMany { .. }
            | Self::Handles { .. }
            | Self::HostBytes { .. } => false,
        }
    }
}
