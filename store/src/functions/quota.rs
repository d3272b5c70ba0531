//! Quotas. The transaction that would exceed a quota checks it, so that simultaneous publishes
//! cannot exceed it together.

use sqlx::Row as _;

use crate::{Error, Quota, Result, StoredUpload, sql::WriteTransaction};

/// The quotas of a node. Nothing is limited by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// The number of functions of all tenants.
    pub functions: u64,
    /// The bytes of all artifacts and files of trees, including those that await garbage collection.
    pub artifact_bytes: u64,
    /// The number of files of all trees, including those that await garbage collection.
    pub files: u64,
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
            files: u64::MAX,
            revisions_per_function: u64::MAX,
            idempotency_keys: u64::MAX,
        }
    }
}

/// What a holder has of something that all holders share.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The most that all holders may have together.
    pub max: u64,
    /// What they have.
    pub taken: u64,
    /// What this holder has.
    pub own: u64,
    /// The number of holders, this one included.
    pub holders: u64,
}

impl Share {
    /// Whether the holder may take one more. The last eighth is for holders that have less than an
    /// equal share, one that may still come counted, so that one alone cannot use up everything.
    #[must_use]
    pub fn admits_one(&self) -> bool {
        let Self { max, taken, own, holders } = *self;
        taken < max && (taken < max - max / 8 || own < max / (holders + 1))
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
        "SELECT COALESCE(SUM(bytes), 0) + (SELECT COALESCE(SUM(bytes), 0) FROM blobs) AS bytes,
                COALESCE(SUM(digest = $1), 0) AS stored
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Case U17.
    #[test]
    fn the_last_eighth_is_for_those_who_have_less_than_an_equal_share() {
        let share = |taken, own, holders| Share { max: 80, taken, own, holders }.admits_one();
        assert!(share(69, 69, 1), "seven eighths are for everyone");
        assert!(!share(70, 70, 1), "one holder stops there");
        assert!(share(70, 0, 2) && share(79, 9, 2), "another one does not");
        assert!(!share(79, 40, 2), "it has its share");
        assert!(!share(80, 0, 2), "nothing is left");
        let few = Share { max: 2, taken: 1, own: 1, holders: 1 };
        assert!(few.admits_one(), "of few, nothing is kept back");
    }
}
