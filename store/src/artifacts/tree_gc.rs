//! Garbage collection of trees that no revision names, and of blobs that no tree needs.
//!
//! The artifact lock excludes it from uploads of trees as from publishes: see [`super::gc`].

use tokio::sync::OwnedRwLockWriteGuard;

use crate::{
    Digest, Result, Store,
    artifacts::{
        blob::{SUFFIX, path_in},
        gc::{old_files, remove},
    },
    directory::blocking,
    sql::{sha256, to_json},
};

/// Trees that are removed in one transaction, and blobs while uploads wait. Either takes some
/// milliseconds.
const TREES: usize = 16;
const BLOBS: usize = 512;

/// The rows of blobs whose digests are in a list, and that no tree needs.
const DELETE_UNUSED: &str = "DELETE FROM blobs
     WHERE digest IN (SELECT unhex(value) FROM json_each($1))
       AND NOT EXISTS (SELECT 1 FROM tree_blobs t WHERE t.digest = blobs.digest)
     RETURNING digest";

impl Store {
    /// Removes trees that no revision has named and that were not uploaded since `older_than_ms`, and
    /// the blobs that no tree needs. Both are Unix milliseconds. Returns how many trees and blobs.
    ///
    /// Whether a revision names a tree is looked at here: a tree that was in use at one collection is
    /// spared until `older_than_ms` is after that collection.
    ///
    /// # Errors
    ///
    /// As [`Store::collect_garbage`].
    pub async fn collect_trees(&self, older_than_ms: i64, now_ms: i64) -> Result<(u64, u64)> {
        let mark = sqlx::query(
            "UPDATE trees SET used_ms = $1
             WHERE used_ms < $1 AND EXISTS (SELECT 1 FROM revisions r WHERE r.tree = trees.id)",
        );
        self.main_db().change(mark.bind(now_ms)).await?;
        let (mut trees, mut blobs) = (0, 0);
        loop {
            let delete = sqlx::query(
                "DELETE FROM trees WHERE id IN (
                     SELECT t.id FROM trees t
                     WHERE t.used_ms < $1
                       AND NOT EXISTS (SELECT 1 FROM revisions r WHERE r.tree = t.id)
                     LIMIT $2)",
            );
            let removed =
                self.main_db().change(delete.bind(older_than_ms).bind(TREES as i64)).await?;
            trees += removed;
            if removed < TREES as u64 {
                break;
            }
        }
        loop {
            let unused = self.unused_blobs(older_than_ms).await?;
            blobs += self.remove_blobs(&unused).await?;
            if unused.len() < BLOBS {
                break;
            }
        }
        let directory = self.directory().clone();
        let old = blocking("listing files of trees", move || {
            old_files(&directory, SUFFIX, older_than_ms)
        });
        for files in old.await?.chunks(BLOBS) {
            blobs += self.remove_files_without_row(files).await?;
        }
        Ok((trees, blobs))
    }

    /// Some of the blobs that may go. Looked for outside of the transaction that removes them, because
    /// that takes long where there are many.
    async fn unused_blobs(&self, older_than_ms: i64) -> Result<Vec<Digest>> {
        sqlx::query(
            "SELECT b.digest FROM blobs b
             WHERE b.created_ms < $1
               AND NOT EXISTS (SELECT 1 FROM tree_blobs t WHERE t.digest = b.digest)
             LIMIT $2",
        )
        .bind(older_than_ms)
        .bind(BLOBS as i64)
        .fetch_all(self.main_db().readers())
        .await?
        .iter()
        .map(|row| Ok(Digest::from_bytes(sha256(row, "digest")?)))
        .collect()
    }

    /// Removes the rows before the files: a crash in between leaves files without a row.
    async fn remove_blobs(&self, unused: &[Digest]) -> Result<u64> {
        let exclusive = self.artifact_lock().clone().write_owned().await;
        let mut tx = self.main_db().begin().await?;
        let removed = sqlx::query(DELETE_UNUSED)
            .bind(hexadecimal(unused))
            .fetch_all(&mut *tx)
            .await?
            .iter()
            .map(|row| Ok(Digest::from_bytes(sha256(row, "digest")?)))
            .collect::<Result<Vec<_>>>()?;
        tx.commit().await?;
        self.remove_blob_files(removed, exclusive).await
    }

    async fn remove_files_without_row(&self, files: &[Digest]) -> Result<u64> {
        let exclusive = self.artifact_lock().clone().write_owned().await;
        // Uses the connection that writes: it may still be committing for an upload whose future was
        // dropped.
        let mut tx = self.main_db().begin().await?;
        let orphans: Vec<String> = sqlx::query_scalar(
            "SELECT value FROM json_each($1)
             WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE digest = unhex(value))",
        )
        .bind(hexadecimal(files))
        .fetch_all(&mut *tx)
        .await?;
        tx.rollback().await?;
        let orphans = orphans.iter().filter_map(|digest| digest.parse().ok()).collect();
        self.remove_blob_files(orphans, exclusive).await
    }

    async fn remove_blob_files(
        &self,
        digests: Vec<Digest>,
        exclusive: OwnedRwLockWriteGuard<()>,
    ) -> Result<u64> {
        let directory = self.directory().clone();
        blocking("removing files of trees", move || {
            let _exclusive = exclusive;
            digests.iter().try_for_each(|digest| remove(&path_in(&directory, digest)))?;
            Ok(digests.len() as u64)
        })
        .await
    }
}

fn hexadecimal(digests: &[Digest]) -> String {
    to_json(&digests.iter().map(ToString::to_string).collect::<Vec<_>>())
}
