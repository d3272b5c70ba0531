//! The layout of the store's directory, and the lock on it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Where each thing lies. Nothing that an owner chose is ever part of a path.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Makes what is missing, takes the lock, and empties `tmp/`: what a crash left
    /// there was never acknowledged. The directory is ours while the file stays open.
    pub(crate) async fn open(dir: &Path) -> Result<(Self, File)> {
        const WHAT: &str = "opening the store's directory";
        let dir = dir.to_owned();
        // Absolute from here on: the process may change its working directory.
        let root = blocking(WHAT, move || {
            private_directory(&dir)?;
            fs::canonicalize(&dir)
        })
        .await?;
        let directory = Self { root };
        let path = directory.root.join("lock");
        let lock = blocking(WHAT, {
            let path = path.clone();
            move || {
                let lock = private_file(&path)?;
                match lock.try_lock() {
                    Ok(()) => Ok(Some(lock)),
                    Err(TryLockError::WouldBlock) => Ok(None),
                    Err(TryLockError::Error(error)) => Err(error),
                }
            }
        })
        .await?
        .ok_or(Error::Locked { path })?;
        let ours = directory.clone();
        blocking(WHAT, move || ours.prepare()).await?;
        Ok((directory, lock))
    }

    fn prepare(&self) -> io::Result<()> {
        private_directory(&self.artifacts())?;
        private_directory(&self.uploads())?;
        for left in fs::read_dir(self.uploads())? {
            fs::remove_file(left?.path())?;
        }
        // SQLite would make them readable for all. It gives its other files the mode
        // that it finds here, and takes an empty file for an empty database.
        private_file(&self.main_database())?;
        private_file(&self.log_database())?;
        sync_directory(&self.root)?;
        match self.root.parent().map_or(Ok(()), sync_directory) {
            // We may have only the right to pass through it; then we did not make its entry.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            done => done,
        }
    }

    pub(crate) fn main_database(&self) -> PathBuf {
        self.root.join("mayfly.db")
    }

    pub(crate) fn log_database(&self) -> PathBuf {
        self.root.join("logs.db")
    }

    /// The key that secrets are sealed with.
    pub(crate) fn secrets_key(&self) -> PathBuf {
        self.root.join("secrets.key")
    }

    /// Uploads under way.
    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Artifacts that turned out to be damaged.
    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }
}

/// Runs file work on a thread that may block. The work goes on when the future is
/// dropped: what it must hold meanwhile has to move into it.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Error::io(what)),
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(cancelled) => Err(Error::Io { what, source: io::Error::other(cancelled) }),
        },
    }
}

/// Makes a directory that only its owner may enter, unless it exists.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Makes names that were added to a directory survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
