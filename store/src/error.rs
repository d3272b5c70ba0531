//! What can go wrong in the store.

use std::{error::Error as StdError, io, path::PathBuf};

/// A result whose error is the store's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant for each decision of a caller. Absence is not an error: look-ups return
/// [`Option`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The function is not in the state that the caller expected. Read it anew, decide
    /// anew. Nothing was changed.
    #[error("what is stored is not what the change was meant for")]
    Conflict,

    /// An upload is larger than the limit it was begun with.
    #[error("the artifact is larger than {max_bytes} bytes")]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },

    /// There is as much as there may be. Nothing was changed.
    #[error("there is as much of {quota:?} as there may be: {max}")]
    Quota {
        /// Of what.
        quota: Quota,
        /// The limit.
        max: u64,
    },

    /// Another store, most likely of another gateway, has the directory open.
    #[error("{} is held by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },

    /// The disk, or a quota, is full. Nothing was changed; reads go on. Heals by itself
    /// when there is room.
    #[error("no space left to write")]
    NoSpace,

    /// The database could not be had within 5 seconds. Nothing was changed; trying
    /// later may succeed.
    #[error("the database is busy")]
    Busy,

    /// A newer version of this program has written the database. It was left untouched.
    #[error("the database has schema {found}, this program knows only {supported} and older")]
    NewerSchema {
        /// The migration that is not known here.
        found: i64,
        /// The last migration that is.
        supported: i64,
    },

    /// A file or directory could not be read or written.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },

    /// The database refused, is broken, or was closed.
    #[error("using the database")]
    Database {
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// What is stored contradicts what this program believes possible.
    #[error("the database is inconsistent: {reason}")]
    Inconsistent {
        /// Which belief, and what was found.
        reason: String,
    },
}

/// Of what there is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Functions.
    Functions,
    /// Bytes of artifacts.
    ArtifactBytes,
    /// Answered requests.
    IdempotencyKeys,
}

impl Error {
    /// Tells a full disk from the other things that go wrong with files.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io { what, source },
        }
    }
}

/// Result codes of SQLite that ask something of the caller. The low byte of an extended
/// code is its primary code.
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_FULL: u32 = 13;
/// An extended code: there was no room to enlarge the index of the write-ahead log.
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
        assert!(matches!(Error::io("reading")(missing), Error::Io { what: "reading", .. }));
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
