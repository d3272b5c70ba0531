//! How much may be stored. Checked in the transaction that would exceed it, so that however many
//! publish at once, none gets past.

use sqlx::Row as _;

use crate::{Error, Quota, Result, StoredUpload, sql::Tx};

/// How much a node keeps. Nothing is limited by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Functions of all tenants.
    pub functions: u64,
    /// Bytes of all artifacts, those included that nothing refers to and nobody has collected.
    pub artifact_bytes: u64,
    /// Answered requests that are remembered.
    pub idempotency_keys: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { functions: u64::MAX, artifact_bytes: u64::MAX, idempotency_keys: u64::MAX }
    }
}

/// Fails if another function would be one too many.
pub(crate) async fn admit_function(tx: &mut Tx, quotas: &Quotas) -> Result<()> {
    let there: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM functions").fetch_one(&mut **tx).await?;
    if there.cast_unsigned() < quotas.functions {
        Ok(())
    } else {
        Err(Error::Quota { quota: Quota::Functions, max: quotas.functions })
    }
}

/// Fails if the received bytes are not there yet and are too many more.
pub(crate) async fn admit_artifact(
    tx: &mut Tx,
    received: &StoredUpload,
    quotas: &Quotas,
) -> Result<()> {
    let row = sqlx::query(
        "SELECT COALESCE(SUM(bytes), 0) AS bytes, COALESCE(SUM(digest = $1), 0) AS there
         FROM artifacts",
    )
    .bind(received.digest().as_bytes().as_slice())
    .fetch_one(&mut **tx)
    .await?;
    let (bytes, there): (i64, i64) = (row.try_get("bytes")?, row.try_get("there")?);
    if there > 0 || bytes.cast_unsigned().saturating_add(received.bytes()) <= quotas.artifact_bytes
    {
        Ok(())
    } else {
        Err(Error::Quota { quota: Quota::ArtifactBytes, max: quotas.artifact_bytes })
    }
}
