//! The handle: opening and closing the store, and the files and databases that its clones share.
//!
//! Other files add methods to [`Store`]. This file uses none of them.

use std::{fs::File, path::PathBuf, sync::Arc};

use rustix::fs::statvfs;
use sqlx::sqlite::SqliteSynchronous;
use tokio::sync::RwLock;

use crate::{
    Result,
    directory::{Directory, blocking},
    sql::{Batches, Database},
};

/// Where the store is, and how many connections it opens.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The directory that holds everything. It is created with mode 0700 when absent.
    pub dir: PathBuf,
    /// Connections that read the main database, at least 1. Each has a thread and a page cache of
    /// at most 2 MB.
    pub readers: u32,
    /// Permits a directory that other users of the machine own or could change.
    pub shared: bool,
}

impl StoreConfig {
    /// A store in `dir` with 4 readers. That is enough for the control plane; invocations do not
    /// read the database.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), readers: 4, shared: false }
    }
}

/// A handle to one data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    opened: Arc<OpenedStore>,
}

#[derive(Debug)]
struct OpenedStore {
    directory: Directory,
    /// Everything but log lines.
    main: Database,
    /// Log lines. They have a file of their own, so that many of them do not delay a deploy.
    logs: Database,
    /// Calls that wait to be made. They have a file of their own for the same reason.
    queue: Batches,
    /// Publishing holds it shared, garbage collection exclusively, each from the moment it looks at
    /// an artifact's file until the artifact's row agrees with the file.
    artifact_lock: Arc<RwLock<()>>,
    /// The lock on the directory, held while the file is open.
    lock: File,
}

impl Store {
    /// Opens the store in `config.dir`: creates missing files, applies pending migrations, and
    /// empties `tmp/`.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`](crate::Error::Locked) while another store has the directory open,
    /// [`Error::Exposed`](crate::Error::Exposed) when other users could change the directory,
    /// [`Error::NewerSchema`](crate::Error::NewerSchema) when a newer version has migrated it; also
    /// [`NoSpace`](crate::Error::NoSpace), [`Busy`](crate::Error::Busy), [`Io`](crate::Error::Io)
    /// and [`Database`](crate::Error::Database).
    pub async fn open(config: &StoreConfig) -> Result<Self> {
        let (directory, lock) = Directory::open(&config.dir, config.shared).await?;
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
            // Arbitrary: clients that follow logs poll, and can wait for another poll.
            2,
            &sqlx::migrate!("../migrations/sqlite-logs"),
        )
        .await?;
        let queue = Database::open(
            &directory.queue_database(),
            SqliteSynchronous::Full,
            // Arbitrary: callers poll for answers, and the worker looks what is due.
            2,
            &sqlx::migrate!("../migrations/sqlite-queue"),
        )
        .await?;
        let (queue, artifact_lock) = (Batches::new(queue), Arc::new(RwLock::new(())));
        let opened = OpenedStore { directory, main, logs, queue, artifact_lock, lock };
        Ok(Self { opened: Arc::new(opened) })
    }

    /// Waits for running transactions, moves the write-ahead logs into the databases, and releases
    /// the lock on the directory. Every clone is then closed: its methods fail with
    /// [`Error::Database`](crate::Error::Database).
    pub async fn close(&self) {
        self.opened.main.close().await;
        self.opened.logs.close().await;
        self.opened.queue.database().close().await;
        // Fails only if the descriptor is not open, and then there is no lock.
        let _ = self.opened.lock.unlock();
    }

    /// The bytes that are free for us on the disk of the store.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io).
    pub async fn free_bytes(&self) -> Result<u64> {
        let path = self.directory().main_database();
        let disk = blocking("asking for free disk space", move || Ok(statvfs(&path)?)).await?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// The paths of files.
    pub(crate) fn directory(&self) -> &Directory {
        &self.opened.directory
    }

    /// The database of everything but log lines.
    pub(crate) fn main_db(&self) -> &Database {
        &self.opened.main
    }

    /// The database of log lines.
    pub(crate) fn log_db(&self) -> &Database {
        &self.opened.logs
    }

    /// The database of calls that wait.
    pub(crate) fn queue_db(&self) -> &Database {
        self.opened.queue.database()
    }

    /// Writes to that database that share transactions.
    pub(crate) fn queue_writes(&self) -> &Batches {
        &self.opened.queue
    }

    /// The lock between publishing, which holds it shared, and garbage collection, which holds it
    /// exclusively.
    pub(crate) fn artifact_lock(&self) -> &Arc<RwLock<()>> {
        &self.opened.artifact_lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_is_embedded() {
        let files = |dir: &str| {
            let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(dir);
            std::fs::read_dir(dir).unwrap().count()
        };

        assert_eq!(sqlx::migrate!("../migrations/sqlite").iter().count(), files("sqlite"));
        assert_eq!(
            sqlx::migrate!("../migrations/sqlite-logs").iter().count(),
            files("sqlite-logs")
        );
        assert_eq!(
            sqlx::migrate!("../migrations/sqlite-queue").iter().count(),
            files("sqlite-queue")
        );
    }
}
