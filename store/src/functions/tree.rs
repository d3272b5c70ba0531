//! Trees of files, which revisions give to their guests.
//!
//! The digest of a tree is that of its list, a blob that names each file with its digest; what a
//! list looks like is not known here. A tree belongs to a tenant: the digest alone gives nobody
//! another tenant's files.

use std::collections::BTreeMap;

use sqlx::{Row as _, SqliteExecutor, sqlite::SqliteRow};

use crate::{
    Digest, Error, Quota, Quotas, Result, Store, Tenant, TreeUpload,
    directory::blocking,
    sql::{WriteTransaction, sha256, to_json},
};

/// A tree to be stored. Its blobs come with it.
#[derive(Clone, Debug)]
pub struct NewTree {
    /// The owner.
    pub tenant: Tenant,
    /// The digest of its list, which is one of its blobs.
    pub digest: Digest,
    /// The number of its files.
    pub files: u64,
    /// The bytes of its files.
    pub bytes: u64,
    /// The quotas that the store must meet with the tree.
    pub quotas: Quotas,
    /// The current time, in Unix milliseconds.
    pub now_ms: i64,
}

/// A stored tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeRecord {
    /// The owner.
    pub tenant: Tenant,
    /// The digest of its list.
    pub digest: Digest,
    /// The number of its files.
    pub files: u64,
    /// The bytes of its files.
    pub bytes: u64,
    /// When it was first stored, in Unix milliseconds.
    pub created_ms: i64,
}

impl Store {
    /// Stores a tree, and returns whether it is new. When this returns, the tree survives a power
    /// cut. [`Store::collect_trees`] spares it for a while without a revision.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`], [`Error::NoSpace`], [`Error::Busy`], [`Error::Io`], [`Error::Database`].
    pub async fn put_tree(&self, upload: TreeUpload, new: NewTree) -> Result<(TreeRecord, bool)> {
        let blobs: BTreeMap<String, u64> =
            upload.blobs().map(|(digest, bytes)| (digest.to_string(), bytes)).collect();
        let blobs = to_json(&blobs);
        // Before any file is moved, so that what is refused takes no space. Simultaneous uploads are
        // checked again together with their rows.
        let added = added(self.main_db().readers(), &blobs).await?;
        admit(stored(self.main_db().readers()).await?, added, &new.quotas)?;
        // Excludes garbage collection: the files must still exist when the rows commit.
        let _shared = self.artifact_lock().read().await;
        blocking("moving files of a tree into place", move || upload.move_into_place()).await?;

        let mut tx = self.main_db().begin().await?;
        let added = self::added(&mut *tx, &blobs).await?;
        if let Err(refused) = admit(stored(&mut *tx).await?, added, &new.quotas) {
            tx.rollback().await?;
            return Err(refused);
        }
        let stored = insert(&mut tx, &blobs, &new).await?;
        tx.commit().await?;
        Ok(stored)
    }

    /// The tree of a tenant with this digest.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn tree(&self, tenant: &Tenant, digest: &Digest) -> Result<Option<TreeRecord>> {
        let row = sqlx::query("SELECT * FROM trees WHERE tenant = $1 AND digest = $2")
            .bind(tenant.as_str())
            .bind(digest.as_bytes().as_slice())
            .fetch_optional(self.main_db().readers())
            .await?;
        row.map(|row| read_tree(&row, tenant)).transpose()
    }
}

/// The number of blobs, and the bytes of everything that the quota of bytes counts.
async fn stored(db: impl SqliteExecutor<'_>) -> Result<(u64, u64)> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM blobs) AS files,
                (SELECT COALESCE(SUM(bytes), 0) FROM blobs)
                + (SELECT COALESCE(SUM(bytes), 0) FROM artifacts) AS bytes",
    )
    .fetch_one(db)
    .await?;
    let (files, bytes): (i64, i64) = (row.try_get("files")?, row.try_get("bytes")?);
    Ok((files.cast_unsigned(), bytes.cast_unsigned()))
}

/// The number of those blobs that are not stored yet, and their bytes.
async fn added(db: impl SqliteExecutor<'_>, blobs: &str) -> Result<(u64, u64)> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS files, COALESCE(SUM(value), 0) AS bytes FROM json_each($1) j
         WHERE NOT EXISTS (SELECT 1 FROM blobs b WHERE b.digest = unhex(j.key))",
    )
    .bind(blobs)
    .fetch_one(db)
    .await?;
    let (files, bytes): (i64, i64) = (row.try_get("files")?, row.try_get("bytes")?);
    Ok((files.cast_unsigned(), bytes.cast_unsigned()))
}

/// A tree of which everything is stored always fits.
fn admit(stored: (u64, u64), added: (u64, u64), quotas: &Quotas) -> Result<()> {
    if added.0 == 0 {
        return Ok(());
    }
    if stored.0.saturating_add(added.0) > quotas.files {
        return Err(Error::Quota { quota: Quota::Files, max: quotas.files });
    }
    if stored.1.saturating_add(added.1) > quotas.artifact_bytes {
        return Err(Error::Quota { quota: Quota::ArtifactBytes, max: quotas.artifact_bytes });
    }
    Ok(())
}

/// Adds the rows that are missing. Returns whether that of the tree was.
async fn insert(
    tx: &mut WriteTransaction,
    blobs: &str,
    new: &NewTree,
) -> Result<(TreeRecord, bool)> {
    sqlx::query(
        "INSERT INTO blobs (digest, bytes, created_ms)
         SELECT unhex(key), value, $2 FROM json_each($1) WHERE true
         ON CONFLICT DO NOTHING",
    )
    .bind(blobs)
    .bind(new.now_ms)
    .execute(&mut **tx)
    .await?;
    let digest = new.digest.as_bytes().as_slice();
    let before = tree_id(&mut **tx, &new.tenant, &new.digest).await?;
    let row = sqlx::query(
        "INSERT INTO trees (tenant, digest, files, bytes, created_ms, used_ms)
         VALUES ($1, $2, $3, $4, $5, $5)
         ON CONFLICT (tenant, digest) DO UPDATE SET used_ms = MAX(used_ms, excluded.used_ms)
         RETURNING *",
    )
    .bind(new.tenant.as_str())
    .bind(digest)
    .bind(new.files.cast_signed())
    .bind(new.bytes.cast_signed())
    .bind(new.now_ms)
    .fetch_one(&mut **tx)
    .await?;
    let id: i64 = row.try_get("id")?;
    if before.is_none() {
        sqlx::query(
            "INSERT INTO tree_blobs (tree, digest) SELECT $2, unhex(key) FROM json_each($1)",
        )
        .bind(blobs)
        .bind(id)
        .execute(&mut **tx)
        .await?;
    }
    Ok((read_tree(&row, &new.tenant)?, before.is_none()))
}

/// The id of a tenant's tree, inside or outside a transaction.
pub(crate) async fn tree_id(
    db: impl SqliteExecutor<'_>,
    tenant: &Tenant,
    digest: &Digest,
) -> Result<Option<i64>> {
    let id = sqlx::query_scalar("SELECT id FROM trees WHERE tenant = $1 AND digest = $2")
        .bind(tenant.as_str())
        .bind(digest.as_bytes().as_slice())
        .fetch_optional(db)
        .await?;
    Ok(id)
}

fn read_tree(row: &SqliteRow, tenant: &Tenant) -> Result<TreeRecord> {
    let (files, bytes): (i64, i64) = (row.try_get("files")?, row.try_get("bytes")?);
    Ok(TreeRecord {
        tenant: tenant.clone(),
        digest: Digest::from_bytes(sha256(row, "digest")?),
        files: files.cast_unsigned(),
        bytes: bytes.cast_unsigned(),
        created_ms: row.try_get("created_ms")?,
    })
}
