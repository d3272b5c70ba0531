//! Garbage collection: removal of artifacts that no revision refers to and no tenant claims.
//!
//! There are two kinds: rows without a revision, and files without a row. A crash or a failed
//! publish leaves a file without a row after the file is renamed and before the row commits.
//!
//! Garbage collection races with a publish of the same bytes, which may find the artifact's file
//! and rely on it. The artifact lock excludes this: a publish holds it shared while it looks for
//! the file and commits the row; garbage collection holds it exclusively while it looks for rows
//! and removes files. The guard moves into the blocking task that removes the files, because that
//! task continues when the future is dropped.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use tokio::sync::OwnedRwLockWriteGuard;

use crate::{
    Digest, Result, Store,
    artifacts::files::{SUFFIX, path_in},
    directory::{Directory, blocking},
    sql::sha256,
};

/// Artifacts that are removed while publishing waits, which takes a few milliseconds.
const BATCH: usize = 64;

impl Store {
    /// Removes artifacts that no revision refers to and that are older than `older_than_ms` (Unix
    /// milliseconds), and returns their digests, so that the caller can remove files that it
    /// derived from them.
    ///
    /// The age of an artifact counts from its first publish, or from when a tenant last claimed it; the age
    /// of a file without a row from its last modification, by the clock of the file system.
    ///
    /// # Errors
    ///
    /// [`Busy`](crate::Error::Busy), [`NoSpace`](crate::Error::NoSpace),
    /// [`Io`](crate::Error::Io) and [`Database`](crate::Error::Database).
    /// Artifacts that were removed before the error stay removed.
    pub async fn collect_garbage(&self, older_than_ms: i64) -> Result<Vec<Digest>> {
        let forget = sqlx::query("DELETE FROM artifact_claims WHERE claimed_ms < $1");
        self.main_db().change(forget.bind(older_than_ms)).await?;
        let mut removed = Vec::new();
        loop {
            let batch = self.collect_unreferenced(older_than_ms).await?;
            let full = batch.len() == BATCH;
            removed.extend(batch);
            if !full {
                break;
            }
        }
        let directory = self.directory().clone();
        let old =
            blocking("listing artifacts", move || old_files(&directory, SUFFIX, older_than_ms));
        for files in old.await?.chunks(BATCH) {
            removed.extend(self.collect_files_without_row(files).await?);
        }
        Ok(removed)
    }

    /// Removes the rows before the files: a crash in between leaves files without a row, which the
    /// next collection finds. The other order would leave rows whose file is missing.
    async fn collect_unreferenced(&self, older_than_ms: i64) -> Result<Vec<Digest>> {
        let exclusive = self.artifact_lock().clone().write_owned().await;
        let mut tx = self.main_db().begin().await?;
        let digests = sqlx::query(
            "DELETE FROM artifacts WHERE digest IN (
                 SELECT a.digest FROM artifacts a
                 WHERE a.created_ms < $1
                   AND NOT EXISTS (SELECT 1 FROM revisions r WHERE r.digest = a.digest)
                   AND NOT EXISTS (SELECT 1 FROM artifact_claims c WHERE c.digest = a.digest)
                 LIMIT $2)
             RETURNING digest",
        )
        .bind(older_than_ms)
        .bind(BATCH as i64)
        .fetch_all(&mut *tx)
        .await?
        .iter()
        .map(|row| Ok(Digest::from_bytes(sha256(row, "digest")?)))
        .collect::<Result<Vec<_>>>()?;
        tx.commit().await?;
        self.remove_files(digests, exclusive).await
    }

    async fn collect_files_without_row(&self, files: &[Digest]) -> Result<Vec<Digest>> {
        let exclusive = self.artifact_lock().clone().write_owned().await;
        // Uses the connection that writes: it may still be committing for a publish whose future
        // was dropped.
        let mut tx = self.main_db().begin().await?;
        let mut orphans = Vec::new();
        for digest in files {
            let row = sqlx::query("SELECT 1 FROM artifacts WHERE digest = $1")
                .bind(digest.as_bytes().as_slice())
                .fetch_optional(&mut *tx)
                .await?;
            if row.is_none() {
                orphans.push(*digest);
            }
        }
        tx.rollback().await?;
        self.remove_files(orphans, exclusive).await
    }

    async fn remove_files(
        &self,
        digests: Vec<Digest>,
        exclusive: OwnedRwLockWriteGuard<()>,
    ) -> Result<Vec<Digest>> {
        let directory = self.directory().clone();
        blocking("removing artifacts", move || {
            let _exclusive = exclusive;
            digests.iter().try_for_each(|digest| remove(&path_in(&directory, digest)))?;
            Ok(digests)
        })
        .await
    }
}

/// Removes a file that may be gone.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Files with this suffix that were last modified before `older_than_ms`. Files that are not named by
/// a digest are not ours, and are kept.
pub(super) fn old_files(
    directory: &Directory,
    suffix: &str,
    older_than_ms: i64,
) -> io::Result<Vec<Digest>> {
    let age = Duration::from_millis(older_than_ms.max(0).unsigned_abs());
    // A time that the system cannot express is later than that of every file.
    let limit = SystemTime::UNIX_EPOCH.checked_add(age);
    let mut old = Vec::new();
    for shard in fs::read_dir(directory.artifacts())? {
        let shard = shard?;
        if !shard.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(shard.path())? {
            let file = file?;
            let name = file.file_name();
            let digest = name.to_str().and_then(|name| name.strip_suffix(suffix)?.parse().ok());
            let modified = file.metadata()?.modified()?;
            if let Some(digest) = digest
                && limit.is_none_or(|limit| modified < limit)
            {
                old.push(digest);
            }
        }
    }
    Ok(old)
}
