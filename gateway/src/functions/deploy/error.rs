//! Why a deploy or a change of a function did not happen.

use std::error::Error as StdError;

use runtime_pool::LoadError;
use store::Digest;
use tokio::task::JoinError;

use crate::functions::{
    deploy::{change_condition::ConditionFailed, change_rate::TooManyChanges},
    stores::StoreError,
};

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
    /// The settings grant a store that is not there.
    #[error("there is no store {name:?}")]
    UnknownStore { name: String },
    #[error(transparent)]
    Stores(#[from] StoreError),
    /// Each import without a grant, with the line that grants it.
    #[error("{0}")]
    MissingGrant(String),
    #[error("{0}")]
    Channel(String),
    #[error(transparent)]
    Precondition(#[from] ConditionFailed),
    #[error("the settings of all functions would have more than {max_bytes} bytes")]
    SettingsQuota { max_bytes: u64 },
    #[error(transparent)]
    Rate(#[from] TooManyChanges),
    #[error("no revision was active before the current one, or it was removed")]
    NothingToRollBackTo,
    #[error("another upload has used the idempotency key")]
    IdempotencyKeyReused,
}
