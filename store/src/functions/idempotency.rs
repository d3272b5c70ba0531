//! Replies to uploads, recorded by the idempotency key that the client chose.
//!
//! A client that did not receive the reply repeats its upload with the same key, and gets the
//! recorded reply. The transaction that publishes a revision also records the reply: after a crash
//! both are stored or neither.

use sqlx::Row as _;

use crate::{
    ActiveFunction, Error, FunctionRecord, Quota, Quotas, Result, Share, Store, Tenant,
    functions::{
        function::find,
        revision::{read_revision, revision_columns},
    },
    sql::{WriteTransaction, sha256},
};

/// How long a reply is kept. Arbitrary, longer than clients repeat a request.
const RETENTION_MS: i64 = 24 * 3_600 * 1_000;

/// The identity of a request, the same for each repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotentRequest<'a> {
    /// The key that the client chose, unique within its tenant.
    pub key: &'a str,
    /// The id of the token that sends it.
    pub token: &'a str,
    /// A hash of everything that determines the outcome. It tells a repetition from another request
    /// with the same key.
    pub fingerprint: [u8; 32],
}

/// The reply to an earlier request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedReply {
    /// The fingerprint of that request.
    pub fingerprint: [u8; 32],
    /// The function in its current state, but with the revision and the version that the reply was
    /// about.
    pub active: ActiveFunction,
    /// Whether the request created that revision.
    pub created: bool,
}

impl Store {
    /// The reply that was recorded for this key within the last day, if the revision that it was
    /// about still exists.
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
        let Some(row) = sqlx::query(concat!(
            "SELECT k.fingerprint, k.created, k.version, f.name, ",
            revision_columns!(),
            "FROM idempotency_keys k
             JOIN functions f ON f.id = k.function_id
             JOIN revisions r ON r.function_id = k.function_id AND r.number = k.revision
             JOIN artifacts a ON a.digest = r.digest
             WHERE k.tenant = $1 AND k.key = $2 AND k.created_ms > $3"
        ))
        .bind(tenant.as_str())
        .bind(key)
        .bind(now_ms.saturating_sub(RETENTION_MS))
        .fetch_optional(self.main_db().readers())
        .await?
        else {
            return Ok(None);
        };
        let name: String = row.try_get("name")?;
        let Some(active) = find(self.main_db().readers(), tenant, &name).await? else {
            // The function was deleted between the two queries.
            return Ok(None);
        };
        // Programs from before recorded no version: then it is one that no state has.
        let version: Option<i64> = row.try_get("version")?;
        let version = version.map_or(u64::MAX, i64::cast_unsigned);
        let function = FunctionRecord { version, ..active.function };
        Ok(Some(RecordedReply {
            fingerprint: sha256(&row, "fingerprint")?,
            active: ActiveFunction { function, revision: read_revision(&row)? },
            created: row.try_get("created")?,
        }))
    }

    /// Records the reply to a request that found `active` in place and created no revision.
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
        let about = Recorded {
            function: active.function.id,
            revision: active.revision.number,
            version: active.function.version,
            created: false,
        };
        insert(&mut tx, &active.function.tenant, request, about, quotas, now_ms).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What a reply was about.
pub(crate) struct Recorded {
    pub(crate) function: i64,
    pub(crate) revision: u32,
    pub(crate) version: u64,
    /// Whether the request created the revision.
    pub(crate) created: bool,
}

/// Removes expired rows and adds one.
pub(crate) async fn insert(
    tx: &mut WriteTransaction,
    tenant: &Tenant,
    request: IdempotentRequest<'_>,
    about: Recorded,
    quotas: &Quotas,
    now_ms: i64,
) -> Result<()> {
    sqlx::query("DELETE FROM idempotency_keys WHERE created_ms <= $1")
        .bind(now_ms.saturating_sub(RETENTION_MS))
        .execute(&mut **tx)
        .await?;
    if !share(tx, request.token, quotas).await?.admits_one() {
        let quota = Quota::IdempotencyKeys;
        return Err(Error::Quota { quota, max: quotas.idempotency_keys });
    }
    sqlx::query(
        "INSERT INTO idempotency_keys
             (tenant, key, fingerprint, function_id, revision, created, created_ms, version,
              token)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(request.key)
    .bind(request.fingerprint.as_slice())
    .bind(about.function)
    .bind(about.revision)
    .bind(about.created)
    .bind(now_ms)
    .bind(about.version.cast_signed())
    .bind(request.token)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What a token has of all keys.
async fn share(tx: &mut WriteTransaction, token: &str, quotas: &Quotas) -> Result<Share> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS taken, COALESCE(SUM(token = $1), 0) AS own,
                COUNT(DISTINCT token) AS holders
         FROM idempotency_keys",
    )
    .bind(token)
    .fetch_one(&mut **tx)
    .await?;
    let count = |column| Ok::<_, Error>(row.try_get::<i64, _>(column)?.cast_unsigned());
    let (taken, own) = (count("taken")?, count("own")?);
    let holders = count("holders")? + u64::from(own == 0);
    Ok(Share { max: quotas.idempotency_keys, taken, own, holders })
}
