//! Uploads that were answered, by the name that their client gave them.
//!
//! A client that did not hear the answer sends its upload once more under the same name, and hears
//! it then. The row is written by the transaction that publishes: either both are there after a
//! crash or neither.

use sqlx::Row as _;

use crate::{
    ActiveFunction, Error, Quota, Quotas, Result, Store, Tenant,
    functions::{function::find, revision::read_revision},
    sql::{Tx, sha256},
};

/// How long an answered request is known. Arbitrary, longer than any client goes on trying.
const KEPT_MS: i64 = 24 * 3_600 * 1_000;

/// What a client calls one request, however often it sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotentRequest<'a> {
    /// The name, unique among those of its tenant.
    pub key: &'a str,
    /// A hash of all that decides the outcome: another request under the same name has another.
    pub fingerprint: [u8; 32],
}

/// A request that was answered before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedReply {
    /// Of the request that was answered.
    pub fingerprint: [u8; 32],
    /// The function as it is, with the revision that the answer was about.
    pub active: ActiveFunction,
    /// Whether the request made that revision.
    pub created: bool,
}

impl Store {
    /// The request that was answered under this name within the last day, if the revision still
    /// exists that its answer was about.
    ///
    /// # Errors
    ///
    /// [`Busy`](Error::Busy), [`Database`](Error::Database), [`Inconsistent`](Error::Inconsistent).
    pub async fn recorded_reply(
        &self,
        tenant: &Tenant,
        key: &str,
        now_ms: i64,
    ) -> Result<Option<RecordedReply>> {
        let Some(row) = sqlx::query(
            "SELECT k.fingerprint, k.created, f.name,
                    r.function_id, r.number, r.digest, a.bytes, r.kind, r.settings, r.created_ms
             FROM idempotency_keys k
             JOIN functions f ON f.id = k.function_id
             JOIN revisions r ON r.function_id = k.function_id AND r.number = k.revision
             JOIN artifacts a ON a.digest = r.digest
             WHERE k.tenant = $1 AND k.key = $2 AND k.created_ms > $3",
        )
        .bind(tenant.as_str())
        .bind(key)
        .bind(now_ms.saturating_sub(KEPT_MS))
        .fetch_optional(self.main_db().readers())
        .await?
        else {
            return Ok(None);
        };
        let name: String = row.try_get("name")?;
        let Some(active) = find(self.main_db().readers(), tenant, &name).await? else {
            // Deleted between the two queries.
            return Ok(None);
        };
        Ok(Some(RecordedReply {
            fingerprint: sha256(&row, "fingerprint")?,
            active: ActiveFunction { function: active.function, revision: read_revision(&row)? },
            created: row.try_get("created")?,
        }))
    }

    /// Remembers that a request was answered with a revision that it did not make.
    ///
    /// # Errors
    ///
    /// [`Quota`](Error::Quota), [`Busy`](Error::Busy), [`NoSpace`](Error::NoSpace),
    /// [`Database`](Error::Database).
    pub async fn record_reply(
        &self,
        request: IdempotentRequest<'_>,
        active: &ActiveFunction,
        quotas: &Quotas,
        now_ms: i64,
    ) -> Result<()> {
        let mut tx = self.main_db().begin().await?;
        let tenant = &active.function.tenant;
        let revision = (active.function.id, active.revision.number);
        insert(&mut tx, tenant, request, revision, false, quotas, now_ms).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Adds a row, in place of those that are too old.
pub(crate) async fn insert(
    tx: &mut Tx,
    tenant: &Tenant,
    request: IdempotentRequest<'_>,
    (function, revision): (i64, u32),
    created: bool,
    quotas: &Quotas,
    now_ms: i64,
) -> Result<()> {
    sqlx::query("DELETE FROM idempotency_keys WHERE created_ms <= $1")
        .bind(now_ms.saturating_sub(KEPT_MS))
        .execute(&mut **tx)
        .await?;
    let kept: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM idempotency_keys").fetch_one(&mut **tx).await?;
    if kept.cast_unsigned() >= quotas.idempotency_keys {
        let quota = Quota::IdempotencyKeys;
        return Err(Error::Quota { quota, max: quotas.idempotency_keys });
    }
    sqlx::query(
        "INSERT INTO idempotency_keys
             (tenant, key, fingerprint, function_id, revision, created, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(request.key)
    .bind(request.fingerprint.as_slice())
    .bind(function)
    .bind(revision)
    .bind(created)
    .bind(now_ms)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
