//! Removal of artifacts that no revision needs.
//!
//! There are two kinds: rows that lost their last revision, and files without a row,
//! which a crash or a refused publish leaves between renaming and committing.
//!
//! The race is with a publish of the same bytes, which may find the file in its place
//! and rely on it. The placing lock decides it: a publish shares it while it looks for
//! the file and commits the row, and we have it alone while we look for rows and remove
//! files. It moves into the blocking task that removes them, because that task goes on
//! when our future is dropped.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use tokio::sync::OwnedRwLockWriteGuard;

use crate::{
    Digest, Result, Store,
    artifacts::files::path_in,
    directory::{Directory, blocking},
    sql::sha256,
};

/// Artifacts that are removed while publishing waits: some milliseconds.
const BATCH: usize = 64;

impl Store {
    /// Removes artifacts that no revision refers to and that are older than
    /// `older_than_ms` (Unix milliseconds), and returns which these were, so that what
    /// others derived from them can go too.
    ///
    /// An artifact's age counts from its first publish; that of a file which no publish
    /// has acknowledged, from its last modification by the clock of the file system.
    ///
    /// # Errors
    ///
    /// [`Busy`](crate::Error::Busy), [`NoSpace`](crate::Error::NoSpace),
    /// [`Io`](crate::Error::Io) and [`Database`](crate::Error::Database).
    /// What was removed before stays removed.
    pub async fn collect_garbage(&self, older_than_ms: i64) -> Result<Vec<Digest>> {
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
        let old = blocking("listing artifacts", move || old_files(&directory, older_than_ms));
        for files in old.await?.chunks(BATCH) {
            removed.extend(self.collect_files_without_row(files).await?);
        }
        Ok(removed)
    }

    /// Rows first: a crash after them leaves files without a row, which the next
    /// collection finds; the other order would leave rows that lie.
    async fn collect_unreferenced(&self, older_than_ms: i64) -> Result<Vec<Digest>> {
        let alone = self.placing().clone().write_owned().await;
        let mut tx = self.main_db().begin().await?;
        let digests = sqlx::query(
            "DELETE FROM artifacts WHERE digest IN (
                 SELECT a.digest FROM artifacts a
                 WHERE a.created_ms < $1
                   AND NOT EXISTS (SELECT 1 FROM revisions r WHERE r.digest = a.digest)
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
        self.remove_files(digests, alone).await
    }

    async fn collect_files_without_row(&self, files: &[Digest]) -> Result<Vec<Digest>> {
        let alone = self.placing().clone().write_owned().await;
        // Asks the connection that writes: the commit of a publish whose future was
        // dropped may still be on its way there.
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
        self.remove_files(orphans, alone).await
    }

    async fn remove_files(
        &self,
        digests: Vec<Digest>,
        alone: OwnedRwLockWriteGuard<()>,
    ) -> Result<Vec<Digest>> {
        let directory = self.directory().clone();
        blocking("removing artifacts", move || {
            let _alone = alone;
            digests.iter().try_for_each(|digest| remove(&path_in(&directory, digest)))?;
            Ok(digests)
        })
        .await
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Artifacts whose file was last modified before `older_than_ms`. Files whose name is
/// no digest are not ours, and stay.
fn old_files(directory: &Directory, older_than_ms: i64) -> io::Result<Vec<Digest>> {
    let age = Duration::from_millis(older_than_ms.max(0).unsigned_abs());
    // A time beyond what the system can express is later than every file.
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
            let digest = name.to_str().and_then(|name| name.strip_suffix(".wasm")?.parse().ok());
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
