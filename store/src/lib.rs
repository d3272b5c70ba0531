//! What has been deployed, and what must not be lost?
//!
//! Functions, their revisions, the artifacts (Wasm bytes) these run, API tokens, and
//! the lines that functions logged. The only crate that speaks SQL. It knows nothing
//! of HTTP or of Wasmtime, reads no environment and no clock: times are Unix
//! milliseconds and come from the caller.
//!
//! One directory holds everything:
//!
//! ```text
//! mayfly.db      functions, revisions, tokens, secrets     (synchronous FULL)
//! secrets.key    what the secrets are sealed with
//! logs.db        log lines                        (synchronous NORMAL)
//! artifacts/ab/abcd….wasm                         named by their SHA-256, never by an owner
//! quarantine/    artifacts that turned out to be damaged, for a look at what happened
//! tmp/           uploads under way; nothing in it was ever acknowledged
//! lock           held by the one gateway that uses the directory
//! ```
//!
//! Two invariants. What a call has acknowledged survives a power cut: a revision's row
//! commits only after its artifact and the directories that lead to it are on disk.
//! And every future may be dropped at any await: what it had begun is then wholly
//! there or wholly absent. Start reading at [`Store::publish`] in `revision.rs`.

#![forbid(unsafe_code)]

mod access;
mod activity;
mod artifacts;
mod directory;
mod error;
mod functions;
mod sql;

use std::{fs::File, path::PathBuf, sync::Arc};

use sqlx::sqlite::SqliteSynchronous;
use tokio::sync::RwLock;

use crate::{directory::Directory, sql::Database};

pub use crate::{
    access::{
        secret::{NewSecret, Secret},
        token::{NewToken, Token},
    },
    activity::log::{LogLine, LogQuery, LogStream, StoredLogLine},
    artifacts::{
        digest::{Digest, ParseDigestError},
        files::{Received, Upload},
    },
    error::{Error, Result},
    functions::{
        function::{ActiveFunction, Function},
        idempotency::{Answered, Request},
        quota::{Quota, Quotas},
        revision::{Expect, NewRevision, Published, Revision},
        settings::{Credential, Day, Isolation, IsolationMode, Settings, Snapshot, Window},
    },
};

/// Where the store lives, and how wide it opens.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory that holds everything. Made with mode 0700 when absent.
    pub dir: PathBuf,
    /// Connections that read the main database, at least 1. Each is a thread and a
    /// page cache of at most 2 MB.
    pub readers: u32,
}

impl Config {
    /// A store in `dir` with 4 readers, which is enough for lists and look-ups of a
    /// control plane: invocations do not read the database.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), readers: 4 }
    }
}

/// A handle to what has been deployed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: Directory,
    /// Functions, revisions, artifacts' rows, tokens.
    main: Database,
    /// Log lines, in a file of their own so that a storm of them delays no deploy.
    logs: Database,
    /// Publishing shares it, garbage collection has it alone, each from the moment it
    /// looks at an artifact's file until that file's row says the same.
    placing: Arc<RwLock<()>>,
    /// Open, and so locked, for as long as the directory is ours.
    lock: File,
}

impl Store {
    /// Opens the store in `config.dir`, makes what is missing, brings the schema up to
    /// date, and empties `tmp/`.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] while another store has the directory open,
    /// [`Error::NewerSchema`] when a newer version has written it; also
    /// [`Error::NoSpace`], [`Error::Io`] and [`Error::Database`].
    pub async fn open(config: &Config) -> Result<Self> {
        let (directory, lock) = Directory::open(&config.dir).await?;
        let main = Database::open(
            &directory.main_database(),
            SqliteSynchronous::Full,
            config.readers,
            &sqlx::migrate!("../migrations/sqlite"),
        )
        .await?;
        let logs = Database::open(
            &directory.log_database(),
            SqliteSynchronous::Normal,
            // Arbitrary: whoever follows logs polls, and can wait for another poll.
            2,
            &sqlx::migrate!("../migrations/sqlite-logs"),
        )
        .await?;
        let placing = Arc::new(RwLock::new(()));
        Ok(Self { inner: Arc::new(Inner { directory, main, logs, placing, lock }) })
    }

    /// Waits for transactions under way, moves the write-ahead logs into the databases,
    /// and gives the directory free. Every clone is then closed: its methods fail
    /// with [`Error::Database`].
    pub async fn close(&self) {
        self.inner.main.close().await;
        self.inner.logs.close().await;
        // Fails only for a descriptor that is not open; and then nothing is locked.
        let _ = self.inner.lock.unlock();
    }
}
