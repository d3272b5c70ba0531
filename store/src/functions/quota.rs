//! Quotas. The transaction that would exceed a quota checks it, so that simultaneous publishes
//! cannot exceed it together.

use sqlx::Row as _;

use crate::{Error, Quota, Result, StoredUpload, sql::WriteTransaction};

/// The quotas of a node. Nothing is limited by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// The number of functions of all tenants.
    pub functions: u64,
    /// The bytes of all artifacts, including those that await garbage collection.
    pub artifact_bytes: u64,
    /// The number of revisions of one function. The oldest inactive ones are removed.
    pub revisions_per_function: u64,
    /// The number of recorded replies of all tenants.
    pub idempotency_keys: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            functions: u64::MAX,
            artifact_bytes: u64::MAX,
            revisions_per_function: u64::MAX,
            idempotency_keys: u64::MAX,
        }
    }
}

/// Fails if one more function would exceed the quota.
pub(crate) async fn admit_function(tx: &mut WriteTransaction, quotas: &Quotas) -> Result<()> {
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM functions").fetch_one(&mut **tx).await?;
    if count.cast_unsigned() < quotas.functions {
        Ok(())
    } else {
        Err(Error::Quota { quota: Quota::Functions, max: quotas.functions })
    }
}

/// Fails if the upload is not stored yet and would exceed the quota of bytes.
pub(crate) async fn admit_artifact(
    tx: &mut WriteTransaction,
    upload: &StoredUpload,
    quotas: &Quotas,
) -> Result<()> {
    let row = sqlx::query(
        "SELECT COALESCE(SUM(bytes), 0) AS bytes, COALESCE(SUM(digest = $1), 0) AS stored
         FROM artifacts",
    )
    .bind(upload.digest().as_bytes().as_slice())
    .fetch_one(&mut **tx)
    .await?;
    let (bytes, stored): (i64, i64) = (row.try_get("bytes")?, row.try_get("stored")?);
    if stored > 0 || bytes.cast_unsigned().saturating_add(upload.bytes()) <= quotas.artifact_bytes {
        Ok(())
    } else {
        Err(Error::Quota { quota: Quota::ArtifactBytes, max: quotas.artifact_bytes })
    }
}
