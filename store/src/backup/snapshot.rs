//! The files of a backup: what the data directory holds at one moment, or a little later.
//!
//! The order matters. A message that a guest has taken may have left its mark in a database of guests'
//! data. So calls and messages that wait are copied first: what is restored may then deliver a message
//! once more, as its promise allows, but never forgets one whose effects are not there.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use crate::{
    Digest, Error, Result, Store,
    artifacts::{blob, files},
    directory::{Directory, blocking, private_directory},
    sql::{Database, sha256},
};

/// Copies of all files of a data directory, from the moment at which it was made. Dropping it removes
/// them. There is one at a time.
#[derive(Debug)]
pub struct Backup {
    directory: PathBuf,
    /// Names in the data directory, in the order of the archive.
    pub(super) names: Vec<String>,
    /// Files that the data directory should have had.
    pub(super) missing: Vec<String>,
}

impl Drop for Backup {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What a backup holds besides what every one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupParts {
    /// The log lines of functions.
    pub logs: bool,
    /// The keys of the node. Without that of its secrets, these cannot be read again.
    pub keys: bool,
}

impl Store {
    /// Copies everything that the data directory holds. Nothing waits for
    /// this: artifacts get a second name, and databases are read as they were when their copy began.
    /// `others` then adds the databases that the store does not know: it is given a directory that
    /// stands for the data directory, and returns the names of its files there.
    ///
    /// # Errors
    ///
    /// [`Error::BackupRunning`], [`Error::NoSpace`], [`Error::Io`], [`Error::Database`].
    pub async fn backup(
        &self,
        parts: BackupParts,
        others: impl AsyncFnOnce(PathBuf) -> io::Result<Vec<String>>,
    ) -> Result<Backup> {
        let directory = self.directory().clone();
        let place = directory.backup();
        let begun =
            blocking("making a directory for a backup", move || Backup::begin(place)).await?;
        let mut backup = begun.ok_or(Error::BackupRunning)?;
        backup.add_database(self.queue_db(), "queue.db").await?;
        let others =
            others(backup.directory.clone()).await.map_err(Error::io("copying guests' data"))?;
        backup.names.extend(others);
        if parts.logs {
            backup.add_database(self.log_db(), "logs.db").await?;
        }
        // Excludes garbage collection: each file that the copy of the database names gets a second name
        // before it can be removed.
        let shared = self.artifact_lock().clone().read_owned().await;
        backup.add_database(self.main_db(), "mayfly.db").await?;
        let wasm = self.digests("SELECT digest FROM artifacts").await?;
        let blobs = self.digests("SELECT digest FROM blobs").await?;
        blocking("linking artifacts", move || {
            let _shared = shared;
            for digest in &wasm {
                backup.add_link(&directory, &files::path_in(&directory, digest))?;
            }
            for digest in &blobs {
                backup.add_link(&directory, &blob::path_in(&directory, digest))?;
            }
            for key in directory.keys().iter().filter(|_| parts.keys) {
                backup.add_copy(&directory, key)?;
            }
            Ok(backup)
        })
        .await
    }

    /// Those of the database as it is now: a row that was added since the copy does no harm.
    async fn digests(&self, query: &'static str) -> Result<Vec<Digest>> {
        let rows = sqlx::query(query).fetch_all(self.main_db().readers()).await?;
        rows.iter().map(|row| Ok(Digest::from_bytes(sha256(row, "digest")?))).collect()
    }
}

impl Backup {
    /// `None` while there is another one.
    fn begin(directory: PathBuf) -> io::Result<Option<Self>> {
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(Some(Self { directory, names: Vec::new(), missing: Vec::new() })),
        }
    }

    /// Where the copy of a file is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    async fn add_database(&mut self, database: &Database, name: &str) -> Result<()> {
        database.copy_to(&self.path(name)).await?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Gives a file that never changes a second name.
    fn add_link(&mut self, directory: &Directory, path: &Path) -> io::Result<()> {
        let name = directory.name_of(path);
        let link = self.path(&name);
        private_directory(link.parent().expect("an artifact lies in a shard"))?;
        let linked = match fs::hard_link(path, &link) {
            // The artifacts are on another disk.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                fs::copy(path, &link).map(drop)
            }
            linked => linked,
        };
        match linked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.missing.push(name),
            linked => {
                linked?;
                self.names.push(name);
            }
        }
        Ok(())
    }

    /// Copies a small file that may be replaced, if it exists.
    fn add_copy(&mut self, directory: &Directory, path: &Path) -> io::Result<()> {
        let name = directory.name_of(path);
        match fs::copy(path, self.path(&name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                self.names.push(name);
                Ok(())
            }
        }
    }
}
