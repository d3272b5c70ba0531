//! The handle: opening and closing the store, and the files and databases that its clones share.
//!
//! Each room adds methods of its own to [`Store`]. This file uses none of them.

use std::{fs::File, path::PathBuf, sync::Arc};

use sqlx::sqlite::SqliteSynchronous;
use tokio::sync::RwLock;

use crate::{Result, directory::Directory, sql::Database};

/// Where the store lives, and how wide it opens.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The directory that holds everything. Made with mode 0700 when absent.
    pub dir: PathBuf,
    /// Connections that read the main database, at least 1. Each is a thread and a
    /// page cache of at most 2 MB.
    pub readers: u32,
}

impl StoreConfig {
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
    pub async fn open(config: &StoreConfig) -> Result<Self> {
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

    /// Where files lie.
    pub(crate) fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// The database of everything but log lines.
    pub(crate) fn main_db(&self) -> &Database {
        &self.inner.main
    }

    /// The database of log lines.
    pub(crate) fn log_db(&self) -> &Database {
        &self.inner.logs
    }

    /// The lock between publishing, which shares it, and garbage collection, which has it alone.
    pub(crate) fn placing(&self) -> &Arc<RwLock<()>> {
        &self.inner.placing
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
    }
}
