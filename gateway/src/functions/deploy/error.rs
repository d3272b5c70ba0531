//! Why a deploy or a change of a function did not happen.

use std::error::Error as StdError;

use runtime_pool::LoadError;
use store::Digest;
use tokio::task::JoinError;

use crate::functions::deploy::change_condition::StateTag;

/// Why nothing changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("receiving the artifact")]
    Receive(#[source] Box<dyn StdError + Send + Sync>),
    #[error("the task of the change ended early")]
    Interrupted(#[source] JoinError),
    #[error("the sender announced the digest {announced}, the artifact has {received}")]
    DigestMismatch { announced: Digest, received: Digest },
    #[error("{0}")]
    Settings(String),
    /// The function's state is `current`; `None` where there is no such function.
    #[error("the function is not in a state that the precondition names")]
    Precondition { current: Option<StateTag> },
    #[error("another upload has used the idempotency key")]
    IdempotencyKeyReused,
}
