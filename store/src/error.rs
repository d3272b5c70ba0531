//! Errors of the store.

use std::{error::Error as StdError, fmt, io, path::PathBuf};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant per decision of a caller. Absence is not an error: look-ups return [`Option`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stored state is not the one that the caller expected, and nothing was changed. The
    /// caller may read the state again and decide again.
    #[error("the stored state does not meet the precondition of the change")]
    Conflict,

    /// Another artifact of the function has the version of the new revision. Nothing was changed.
    #[error("another artifact of the function has this version")]
    VersionTaken,

    /// Another certificate is for a host of the new one. Nothing was changed.
    #[error("another certificate is for {host}")]
    HostTaken {
        /// The host.
        host: String,
    },

    /// The tenant has no tree with the digest that the settings name. Nothing was changed.
    #[error("there is no tree of files with the digest that the settings name")]
    NoSuchTree,

    /// The tenant has no artifact with the digest that is named. Nothing was changed.
    #[error("there is no artifact with the digest that is named")]
    NoSuchArtifact,

    /// The function has no revision with this number. Nothing was changed.
    #[error("the function has no revision {number}")]
    NoSuchRevision {
        /// The number.
        number: u32,
    },

    /// No revision has a version in the range of a channel. Nothing was changed.
    #[error("no revision of the function has a version in the range")]
    RangeNotMet,

    /// An upload is larger than the limit that was given when it began.
    #[error("the artifact is larger than {max_bytes} bytes")]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },

    /// The change would exceed a quota. Nothing was changed.
    #[error("the change would exceed the quota of {max} {quota}")]
    Quota {
        /// The exceeded quota.
        quota: Quota,
        /// The limit.
        max: u64,
    },

    /// Another backup is being made. Nothing was changed.
    #[error("another backup is being made")]
    BackupRunning,

    /// Another store, most likely of another gateway, has the directory open.
    #[error("{} is held by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },

    /// Another user owns a file or directory of the store or on the way to it, or could change it,
    /// or could read a key. Nothing was opened.
    #[error("{} {reason}; if you trust what it holds: {remedy}", path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Who could do what with it.
        reason: String,
        /// The command that changes that.
        remedy: String,
    },

    /// The disk, or a quota of the file system, is full. Nothing was changed. Reads still succeed,
    /// and writes succeed again when there is space.
    #[error("no space left to write")]
    NoSpace,

    /// Other writers held the database for more than 5 seconds. Nothing was changed; another
    /// attempt may succeed.
    #[error("the database is busy")]
    Busy,

    /// A newer version of this program has migrated the database. It was not changed.
    #[error(
        "the database has schema version {found}, and this program supports {supported} and older"
    )]
    NewerSchema {
        /// The newest migration that was applied.
        found: i64,
        /// The newest migration that this program knows.
        supported: i64,
    },

    /// A file or directory could not be read or written.
    #[error("{action}")]
    Io {
        /// The action that failed, such as `opening an artifact`.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },

    /// The database returned an error, is damaged, or was closed.
    #[error("using the database")]
    Database {
        /// The cause.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The database holds a value that this program never writes.
    #[error("the database is inconsistent: {reason}")]
    Inconsistent {
        /// The value, and the rule that it breaks.
        reason: String,
    },
}

/// A kind of quota. Displays as the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Functions.
    Functions,
    /// Bytes of artifacts.
    ArtifactBytes,
    /// Certificates.
    Certificates,
    /// Files of trees.
    Files,
    /// Channels of a function.
    Channels,
    /// Routes.
    Routes,
    /// Schedules.
    Schedules,
    /// Named queues.
    Queues,
    /// Flows.
    Flows,
    /// Stores of guests' data.
    Stores,
    /// Recorded replies.
    IdempotencyKeys,
    /// Calls that wait in one lane of the queue.
    QueuedCalls,
    /// Messages that wait in one named queue.
    Messages,
    /// Runs of one flow that wait.
    FlowRuns,
    /// Bytes of calls that wait in the queue.
    QueuedBytes,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Functions => "functions",
            Self::ArtifactBytes => "bytes of artifacts",
            Self::Certificates => "certificates",
            Self::Files => "files of trees",
            Self::Channels => "channels of a function",
            Self::Routes => "routes",
            Self::Schedules => "schedules",
            Self::Queues => "queues",
            Self::Flows => "flows",
            Self::Stores => "stores",
            Self::IdempotencyKeys => "idempotency keys",
            Self::QueuedCalls => "queued calls",
            Self::Messages => "messages in a queue",
            Self::FlowRuns => "runs of a flow",
            Self::QueuedBytes => "bytes of queued calls",
        })
    }
}

impl Error {
    /// Distinguishes a full disk from other errors of the file system.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io { action, source },
        }
    }
}

/// Result codes of SQLite that callers react to. The low byte of an extended code is its primary
/// code.
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_FULL: u32 = 13;
/// An extended code: no space was left for the index of the write-ahead log.
const SQLITE_IOERR_SHMSIZE: u32 = 10 | (19 << 8);

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(refusal) => refusal.code().and_then(|code| code.parse().ok()),
            sqlx::Error::PoolTimedOut => return Self::Busy,
            sqlx::Error::ColumnDecode { index, source } => {
                return Self::Inconsistent { reason: format!("column {index}: {source}") };
            }
            _ => None,
        };
        match code {
            Some(SQLITE_IOERR_SHMSIZE) => Self::NoSpace,
            Some(code) if code & 0xff == SQLITE_FULL => Self::NoSpace,
            Some(code) if matches!(code & 0xff, SQLITE_BUSY | SQLITE_LOCKED) => Self::Busy,
            _ => Self::Database { source: error.into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_full_device_is_no_space_and_other_file_errors_are_not() {
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let refused = full.write_all(b"x").unwrap_err();

        assert!(matches!(Error::io("writing")(refused), Error::NoSpace));
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert!(matches!(Error::io("reading")(missing), Error::Io { action: "reading", .. }));
    }

    #[test]
    fn a_pool_that_gives_no_connection_is_busy() {
        assert!(matches!(Error::from(sqlx::Error::PoolTimedOut), Error::Busy));
        assert!(matches!(Error::from(sqlx::Error::PoolClosed), Error::Database { .. }));
    }

    #[test]
    fn a_message_does_not_repeat_its_cause() {
        let error = Error::from(sqlx::Error::PoolClosed);

        assert_eq!(error.to_string(), "using the database");
        assert!(error.source().unwrap().to_string().contains("closed pool"));
    }
}
