//! Artifacts that tenants have uploaded by themselves, before a function runs them.
//!
//! The bytes of an artifact are stored once for all tenants; a claim says that a tenant has uploaded them. A
//! tenant may name an artifact that it claims, or that a function of its own runs: the digest alone gives it
//! no other tenant's bytes.

use sqlx::SqliteExecutor;

use crate::{
    Digest, Error, Quotas, Result, Store, StoredUpload, Tenant,
    functions::{publish::insert_artifact, quota},
};

/// An artifact of a tenant, if the tenant may name it.
const OWN: &str = "SELECT a.bytes FROM artifacts a
     WHERE a.digest = $2
       AND (EXISTS (SELECT 1 FROM artifact_claims c WHERE c.tenant = $1 AND c.digest = $2)
            OR EXISTS (SELECT 1 FROM revisions r JOIN functions f ON f.id = r.function_id
                       WHERE r.digest = $2 AND f.tenant = $1))";

impl Store {
    /// Stores an artifact that no function runs yet, and returns whether it is new to its tenant. When this
    /// returns, it survives a power cut. [`Store::collect_garbage`] spares it for a while.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`], [`Error::NoSpace`], [`Error::Busy`], [`Error::Io`], [`Error::Database`].
    pub async fn put_artifact(
        &self,
        tenant: &Tenant,
        upload: &StoredUpload,
        quotas: &Quotas,
        now_ms: i64,
    ) -> Result<bool> {
        // Before the file is moved, so that what is refused takes no space. Simultaneous uploads are checked
        // again together with their rows.
        let mut tx = self.main_db().begin().await?;
        let admitted = quota::admit_artifact(&mut tx, upload, quotas).await;
        tx.rollback().await?;
        admitted?;
        // Excludes garbage collection: the file must still exist when the rows commit.
        let _shared = self.artifact_lock().read().await;
        self.move_into_place(upload).await?;

        let mut tx = self.main_db().begin().await?;
        if let Err(refused) = quota::admit_artifact(&mut tx, upload, quotas).await {
            tx.rollback().await?;
            return Err(refused);
        }
        insert_artifact(&mut tx, upload, now_ms).await?;
        let digest = upload.digest();
        let is_new = own_artifact(&mut *tx, tenant, &digest).await?.is_none();
        claim(&mut *tx, tenant, &digest, now_ms).await?;
        tx.commit().await?;
        Ok(is_new)
    }

    /// The bytes of an artifact that a tenant may name. `None` if it may name none with this digest.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`].
    pub async fn own_artifact(&self, tenant: &Tenant, digest: &Digest) -> Result<Option<u64>> {
        own_artifact(self.main_db().readers(), tenant, digest).await
    }

    /// Keeps artifacts that a tenant may name from [`Store::collect_garbage`] for a while longer, and returns
    /// those of the digests that it may not name.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Busy`], [`Error::Database`].
    pub async fn claim_artifacts(
        &self,
        tenant: &Tenant,
        digests: impl IntoIterator<Item = Digest> + Send,
        now_ms: i64,
    ) -> Result<Vec<Digest>> {
        let mut tx = self.main_db().begin().await?;
        let digests: Vec<Digest> = digests.into_iter().collect();
        let mut unknown = Vec::new();
        for digest in digests {
            match own_artifact(&mut *tx, tenant, &digest).await? {
                Some(_) => claim(&mut *tx, tenant, &digest, now_ms).await?,
                None => unknown.push(digest),
            }
        }
        tx.commit().await?;
        Ok(unknown)
    }
}

/// The bytes of an artifact that a tenant may name, inside or outside a transaction.
pub(crate) async fn own_artifact(
    db: impl SqliteExecutor<'_>,
    tenant: &Tenant,
    digest: &Digest,
) -> Result<Option<u64>> {
    let bytes: Option<i64> = sqlx::query_scalar(OWN)
        .bind(tenant.as_str())
        .bind(digest.as_bytes().as_slice())
        .fetch_optional(db)
        .await?;
    Ok(bytes.map(i64::cast_unsigned))
}

async fn claim(
    db: impl SqliteExecutor<'_>,
    tenant: &Tenant,
    digest: &Digest,
    now_ms: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO artifact_claims (tenant, digest, claimed_ms) VALUES ($1, $2, $3)
         ON CONFLICT (tenant, digest) DO UPDATE
         SET claimed_ms = MAX(claimed_ms, excluded.claimed_ms)",
    )
    .bind(tenant.as_str())
    .bind(digest.as_bytes().as_slice())
    .bind(now_ms)
    .execute(db)
    .await
    .map_err(Error::from)?;
    Ok(())
}
