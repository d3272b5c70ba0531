//! The layout of the store's directory, and the lock on it.

mod ownership;

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use self::ownership::{Exposed, exposed_entry, exposed_path};
use crate::{Error, Result};

/// The paths of all files. No text that an owner chose is part of a path.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Creates missing directories, takes the lock, and empties `tmp/`: uploads that a crash left
    /// there were never acknowledged. The lock is held while the returned file is open. Unless
    /// `shared`, refuses a directory that other users could change.
    pub(crate) async fn open(dir: &Path, shared: bool) -> Result<(Self, File)> {
        const ACTION: &str = "opening the store's directory";
        let dir = dir.to_owned();
        if !shared {
            // Before anything is created in it.
            let dir = dir.clone();
            let exposed = blocking(ACTION, move || exposed_path(&dir)).await?;
            refuse(exposed)?;
        }
        // Absolute, because the process may change its working directory.
        let root = blocking(ACTION, move || {
            private_directory(&dir)?;
            fs::canonicalize(&dir)
        })
        .await?;
        if !shared {
            // Again: another user may have created the directory in the meantime.
            let root = root.clone();
            let exposed = blocking(ACTION, move || match exposed_path(&root)? {
                None => exposed_entry(&root),
                found => Ok(found),
            })
            .await?;
            refuse(exposed)?;
        }
        let directory = Self { root };
        let path = directory.root.join("lock");
        let lock = blocking(ACTION, {
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
        blocking(ACTION, move || ours.prepare()).await?;
        Ok((directory, lock))
    }

    fn prepare(&self) -> io::Result<()> {
        private_directory(&self.artifacts())?;
        private_directory(&self.uploads())?;
        for left in fs::read_dir(self.uploads())? {
            fs::remove_file(left?.path())?;
        }
        match fs::remove_dir_all(self.backup()) {
            // What a crash has left of a backup.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // SQLite would create them readable by everybody. It gives its other files the mode of the
        // database, and treats an empty file as an empty database.
        private_file(&self.main_database())?;
        private_file(&self.log_database())?;
        private_file(&self.queue_database())?;
        sync_directory(&self.root)?;
        match self.root.parent().map_or(Ok(()), sync_directory) {
            // A process that may only pass through the parent did not create the entry in it.
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

    pub(crate) fn queue_database(&self) -> PathBuf {
        self.root.join("queue.db")
    }

    /// The key that secrets are encrypted with.
    pub(crate) fn secrets_key(&self) -> PathBuf {
        self.root.join("secrets.key")
    }

    /// Uploads in progress.
    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// What a backup holds while it is made.
    pub(crate) fn backup(&self) -> PathBuf {
        self.root.join("backup")
    }

    /// The keys of the node that its data cannot be used without: that of its secrets, and the token of
    /// its administrator. The gateway makes the second.
    pub(crate) fn keys(&self) -> [PathBuf; 2] {
        [self.secrets_key(), self.root.join("admin.token")]
    }

    /// The name in the directory of a file below it.
    pub(crate) fn name_of(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.root).expect("it is below the directory");
        below.to_str().expect("our names are ASCII").to_owned()
    }

    /// Damaged artifacts.
    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }
}

/// Whether a data directory that is restored may have a file of this name.
pub(crate) fn is_data_file(name: &str) -> bool {
    if ["mayfly.db", "queue.db", "logs.db", "secrets.key", "admin.token"].contains(&name) {
        return true;
    }
    let is_plain = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
    };
    // Below `state/` is what guests have stored; the store does not know its files.
    matches!(name.split_once('/'), Some(("artifacts" | "state", below)) if below.split('/').all(is_plain))
}

fn refuse(exposed: Option<Exposed>) -> Result<()> {
    let Some(Exposed { path, reason, remedy }) = exposed else { return Ok(()) };
    Err(Error::Exposed { path, reason, remedy })
}

/// Runs file operations on a thread that may block. They continue when the future is dropped, so
/// guards that they need must move into `work`.
pub(crate) async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Error::io(action)),
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(cancelled) => Err(Error::Io { action, source: io::Error::other(cancelled) }),
        },
    }
}

/// Creates a directory, and missing parents, that only its owner may enter.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// When this returns, the names that were added to the directory survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
