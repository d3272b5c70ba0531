//! Publishing: a revision is added and becomes the active one of its function, in one transaction.

use crate::{
    ActiveFunction, Digest, Error, FunctionRecord, IdempotentRequest, Quotas, Result, Revision,
    Settings, Store, StoredUpload, Tenant,
    functions::{function::find, idempotency, quota},
    sql::{Tx, to_json},
};

/// A revision to be published.
#[derive(Clone, Debug)]
pub struct NewRevision<'a> {
    /// Who owns the function.
    pub tenant: Tenant,
    /// The function's name within its tenant. The function is made when it is absent.
    pub function: &'a str,
    /// Which sort of Wasm binary the artifact is.
    pub kind: &'a str,
    /// `None` takes over those of the active revision, or the defaults for a function
    /// that is made.
    pub settings: Option<Settings>,
    /// What must hold for the revision to be published.
    pub precondition: Precondition,
    /// What the client calls this, so that it is known when it is sent once more.
    pub request: Option<IdempotentRequest<'a>>,
    /// How much there may be with it.
    pub quotas: Quotas,
    /// The time of publication, in Unix milliseconds.
    pub now_ms: i64,
}

/// What a caller believes of a function that it is about to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing: whatever is there is replaced.
    #[default]
    Unconditional,
    /// There is no such function.
    Absent,
    /// There is one, and this is its active revision.
    ActiveRevision(u32),
}

/// A revision that has become the active one of its function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The function as it is with it.
    pub function: FunctionRecord,
    /// The revision.
    pub revision: Revision,
    /// Whether the function was made for it.
    pub created_function: bool,
}

impl Store {
    /// Publishes a revision that runs the received bytes, and makes it the active one.
    /// When this returns, both survive a power cut.
    ///
    /// It may be tried again with the same `received` after an error. The bytes may be
    /// in their place then, which is harmless: nothing refers to them, and
    /// [`Store::collect_garbage`] removes them in time.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when `new.precondition` does not hold; [`Error::Quota`];
    /// [`Error::NoSpace`], [`Error::Busy`], [`Error::Io`], [`Error::Database`],
    /// [`Error::Inconsistent`].
    pub async fn publish(
        &self,
        received: &StoredUpload,
        new: NewRevision<'_>,
    ) -> Result<Published> {
        // Shared with other publishes, not with garbage collection: the file that
        // `place` finds or makes must still be there when the row commits.
        let _placing = self.placing().read().await;
        self.place(received).await?;

        let mut tx = self.main_db().begin().await?;
        let before = find(&mut *tx, &new.tenant, new.function).await?;
        let holds = match new.precondition {
            Precondition::Unconditional => true,
            Precondition::Absent => before.is_none(),
            Precondition::ActiveRevision(number) => {
                before.as_ref().is_some_and(|before| before.revision.number == number)
            }
        };
        if !holds {
            tx.rollback().await?;
            return Err(Error::Conflict);
        }
        quota::admit_artifact(&mut tx, received, &new.quotas).await?;
        insert_artifact(&mut tx, received, new.now_ms).await?;
        let created_function = before.is_none();
        let (function_id, inherited) = match before {
            Some(before) => (before.function.id, before.revision.settings),
            None => (insert_function(&mut tx, &new).await?, Settings::default()),
        };
        let row = RevisionRow {
            function_id,
            digest: received.digest(),
            kind: new.kind,
            settings: &new.settings.unwrap_or(inherited),
            now_ms: new.now_ms,
        };
        let number = insert_active_revision(&mut tx, row).await?;
        if let Some(request) = new.request {
            let revision = (function_id, number);
            let (tenant, quotas) = (&new.tenant, &new.quotas);
            idempotency::insert(&mut tx, tenant, request, revision, true, quotas, new.now_ms)
                .await?;
        }
        finish(tx, &new.tenant, new.function, created_function).await
    }

    /// Publishes a revision that runs the same artifact with other settings, and makes
    /// it the active one. `None` when there is no such function.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when the active revision is not `expected_revision`;
    /// [`Error::NoSpace`], [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn change_settings(
        &self,
        tenant: &Tenant,
        function: &str,
        expected_revision: u32,
        settings: Settings,
        now_ms: i64,
    ) -> Result<Option<Published>> {
        let mut tx = self.main_db().begin().await?;
        let Some(ActiveFunction { revision, .. }) = find(&mut *tx, tenant, function).await? else {
            tx.rollback().await?;
            return Ok(None);
        };
        if revision.number != expected_revision {
            tx.rollback().await?;
            return Err(Error::Conflict);
        }
        let row = RevisionRow {
            function_id: revision.function_id,
            digest: revision.digest,
            kind: &revision.kind,
            settings: &settings,
            now_ms,
        };
        insert_active_revision(&mut tx, row).await?;
        finish(tx, tenant, function, false).await.map(Some)
    }

    /// Makes `revision` the one that invocations reach. `None` when there is no such
    /// function or revision.
    ///
    /// # Errors
    ///
    /// As [`Store::describe`].
    pub async fn activate(
        &self,
        tenant: &Tenant,
        function: &str,
        revision: u32,
        now_ms: i64,
    ) -> Result<Option<Published>> {
        let mut tx = self.main_db().begin().await?;
        let changed = sqlx::query(
            "UPDATE functions SET active_revision = $1, updated_ms = $2
             WHERE tenant = $3 AND name = $4
               AND EXISTS (SELECT 1 FROM revisions r WHERE r.function_id = id AND r.number = $1)",
        )
        .bind(revision)
        .bind(now_ms)
        .bind(tenant.as_str())
        .bind(function)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if changed == 0 {
            tx.rollback().await?;
            return Ok(None);
        }
        let active = find(&mut *tx, tenant, function).await?;
        tx.commit().await?;
        Ok(active.map(|ActiveFunction { function, revision }| Published {
            function,
            revision,
            created_function: false,
        }))
    }
}

/// A row for `revisions`, but for its number.
struct RevisionRow<'a> {
    function_id: i64,
    digest: Digest,
    kind: &'a str,
    settings: &'a Settings,
    now_ms: i64,
}

async fn insert_artifact(tx: &mut Tx, received: &StoredUpload, now_ms: i64) -> Result<()> {
    sqlx::query(
        "INSERT INTO artifacts (digest, bytes, created_ms) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind(received.digest().as_bytes().as_slice())
    .bind(received.bytes().cast_signed())
    .bind(now_ms)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Inserts a function that points to its first revision, which the same transaction has
/// to add.
async fn insert_function(tx: &mut Tx, new: &NewRevision<'_>) -> Result<i64> {
    quota::admit_function(tx, &new.quotas).await?;
    let id = sqlx::query_scalar(
        "INSERT INTO functions (tenant, name, active_revision, created_ms, updated_ms)
         VALUES ($1, $2, 1, $3, $3) RETURNING id",
    )
    .bind(new.tenant.as_str())
    .bind(new.function)
    .bind(new.now_ms)
    .fetch_one(&mut **tx)
    .await?;
    Ok(id)
}

/// Adds a revision under the next number, and points its function to it. Returns that number.
async fn insert_active_revision(tx: &mut Tx, row: RevisionRow<'_>) -> Result<u32> {
    let RevisionRow { function_id, digest, kind, settings, now_ms } = row;
    // Revisions go only with their function, so the maximum is the last one ever given.
    let number: u32 = sqlx::query_scalar(
        "INSERT INTO revisions (function_id, number, digest, kind, settings, created_ms)
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5
         FROM revisions WHERE function_id = $1
         RETURNING number",
    )
    .bind(function_id)
    .bind(digest.as_bytes().as_slice())
    .bind(kind)
    .bind(to_json(settings))
    .bind(now_ms)
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query("UPDATE functions SET active_revision = $1, updated_ms = $2 WHERE id = $3")
        .bind(number)
        .bind(now_ms)
        .bind(function_id)
        .execute(&mut **tx)
        .await?;
    Ok(number)
}

async fn finish(
    mut tx: Tx,
    tenant: &Tenant,
    function: &str,
    created_function: bool,
) -> Result<Published> {
    let active = find(&mut *tx, tenant, function).await?;
    tx.commit().await?;
    let Some(ActiveFunction { function, revision }) = active else {
        return Err(Error::Inconsistent { reason: "a published function is absent".to_owned() });
    };
    Ok(Published { function, revision, created_function })
}
