//! Publishing: one transaction adds a revision and moves the channels that follow it.

use crate::{
    ActiveFunction, Digest, Error, IdempotentRequest, Published, Quotas, Result, Settings, Store,
    StoredUpload, Tenant,
    functions::{
        channel::follow,
        function::find,
        history::{Action, Actor, Made, Moved, record},
        idempotency::{self, Recorded},
        published::{active, commit},
        quota,
        revision::{Release, trim},
        tree::tree_id,
    },
    sql::{WriteTransaction, to_json},
};

/// A revision to be published.
#[derive(Clone, Debug)]
pub struct NewRevision<'a> {
    /// The owner of the function.
    pub tenant: Tenant,
    /// The function's name within its tenant. The function is created if it does not exist.
    pub function: &'a str,
    /// Who publishes it.
    pub actor: Actor<'a>,
    /// What the publisher says of it.
    pub release: Release,
    /// The kind of Wasm binary.
    pub kind: &'a str,
    /// `None` takes the settings of the active revision, or the defaults for a function that is
    /// created.
    pub settings: Option<Settings>,
    /// The condition for the revision to be published.
    pub precondition: Precondition,
    /// The request of the client, whose reply is recorded, so that a repetition gets the same
    /// reply.
    pub request: Option<IdempotentRequest<'a>>,
    /// The quotas that the store must meet with the revision.
    pub quotas: Quotas,
    /// The time of publication, in Unix milliseconds.
    pub now_ms: i64,
}

/// Other settings for the artifact of the active revision.
#[derive(Clone, Debug)]
pub struct NewSettings<'a> {
    /// The owner of the function.
    pub tenant: Tenant,
    /// The function's name within its tenant.
    pub function: &'a str,
    /// The number of the revision that must be active.
    pub expected_revision: u32,
    /// The settings of the new revision.
    pub settings: Settings,
    /// A description that replaces the function's.
    pub description: Option<&'a str>,
    /// Who changes them.
    pub actor: Actor<'a>,
    /// The quotas that the store must meet with the revision.
    pub quotas: Quotas,
    /// The time of the change, in Unix milliseconds.
    pub now_ms: i64,
}

/// The state that a function must be in for a revision to be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Any state.
    #[default]
    Unconditional,
    /// The function does not exist.
    Absent,
    /// The function exists, and its active revision has this number.
    ActiveRevision(u32),
}

impl Store {
    /// Publishes a revision that runs the uploaded bytes, and makes it the active one. When this
    /// returns, the revision and its artifact survive a power cut.
    ///
    /// After an error the call may be repeated with the same `upload`. The artifact's file may
    /// exist then without a row; [`Store::collect_garbage`] removes it later.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when `new.precondition` does not hold; [`Error::VersionTaken`] when
    /// another artifact of the function has the same version; [`Error::NoSuchTree`]; [`Error::Quota`];
    /// [`Error::NoSpace`], [`Error::Busy`], [`Error::Io`], [`Error::Database`],
    /// [`Error::Inconsistent`].
    pub async fn publish(&self, upload: &StoredUpload, new: NewRevision<'_>) -> Result<Published> {
        // Excludes garbage collection: the file that `move_into_place` finds or creates must still
        // exist when the row commits.
        let _shared = self.artifact_lock().read().await;
        self.move_into_place(upload).await?;

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
        quota::admit_artifact(&mut tx, upload, &new.quotas).await?;
        insert_artifact(&mut tx, upload, new.now_ms).await?;
        let created_function = before.is_none();
        let was = before.as_ref().map(|before| before.revision.number);
        let (function_id, inherited) = match before {
            Some(before) => (before.function.id, before.revision.settings),
            None => {
                let made = (new.actor.token, new.now_ms);
                let name = (&new.tenant, new.function);
                (insert_function(&mut tx, name, made, &new.quotas).await?, Settings::default())
            }
        };
        if is_taken(&mut tx, function_id, &new.release, &upload.digest()).await? {
            tx.rollback().await?;
            return Err(Error::VersionTaken);
        }
        let settings = new.settings.unwrap_or(inherited);
        let row = RevisionRow {
            function_id,
            digest: upload.digest(),
            kind: new.kind,
            tree: tree_of(&mut tx, &new.tenant, &settings).await?,
            settings: &settings,
            release: &new.release,
            made: Made { action: Action::Deploy, actor: new.actor, now_ms: new.now_ms },
        };
        let (revision, version) = insert_revision(&mut tx, was, row).await?;
        let removed = trim(&mut tx, function_id, &new.quotas).await?;
        if let Some(request) = new.request {
            let about = Recorded { function: function_id, revision, version, created: true };
            let (tenant, quotas) = (&new.tenant, &new.quotas);
            idempotency::insert(&mut tx, tenant, request, about, quotas, new.now_ms).await?;
        }
        let active = active(&mut tx, &new.tenant, new.function).await?;
        let published = commit(tx, active, Some(revision)).await?;
        Ok(Published { created_function, removed_revisions: removed, ..published })
    }

    /// Publishes a revision that runs the artifact of the active one with other settings, and makes
    /// it the active one. `None` when the function does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when the active revision is not `new.expected_revision`;
    /// [`Error::NoSuchTree`];
    /// [`Error::NoSpace`], [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn change_settings(&self, new: NewSettings<'_>) -> Result<Option<Published>> {
        let mut tx = self.main_db().begin().await?;
        let before = find(&mut *tx, &new.tenant, new.function).await?;
        let Some(ActiveFunction { revision, .. }) = before else {
            tx.rollback().await?;
            return Ok(None);
        };
        if revision.number != new.expected_revision {
            tx.rollback().await?;
            return Err(Error::Conflict);
        }
        let row = RevisionRow {
            function_id: revision.function_id,
            digest: revision.digest,
            kind: &revision.kind,
            tree: tree_of(&mut tx, &new.tenant, &new.settings).await?,
            settings: &new.settings,
            release: &revision.release,
            made: Made { action: Action::Settings, actor: new.actor, now_ms: new.now_ms },
        };
        let (number, _) = insert_revision(&mut tx, Some(revision.number), row).await?;
        if let Some(description) = new.description {
            sqlx::query("UPDATE functions SET description = $1 WHERE id = $2")
                .bind(description)
                .bind(revision.function_id)
                .execute(&mut *tx)
                .await?;
        }
        let removed = trim(&mut tx, revision.function_id, &new.quotas).await?;
        let active = active(&mut tx, &new.tenant, new.function).await?;
        let published = commit(tx, active, Some(number)).await?;
        Ok(Some(Published { removed_revisions: removed, ..published }))
    }
}

/// A row of `revisions` without its number.
pub(super) struct RevisionRow<'a> {
    pub(super) function_id: i64,
    pub(super) digest: Digest,
    pub(super) kind: &'a str,
    /// The tree that the settings name.
    pub(super) tree: Option<i64>,
    pub(super) settings: &'a Settings,
    pub(super) release: &'a Release,
    pub(super) made: Made<'a>,
}

/// Adds an artifact's row, if it has none. The transaction holds the artifact lock shared.
pub(super) async fn insert_artifact(
    tx: &mut WriteTransaction,
    upload: &StoredUpload,
    now_ms: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO artifacts (digest, bytes, created_ms) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind(upload.digest().as_bytes().as_slice())
    .bind(upload.bytes().cast_signed())
    .bind(now_ms)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Inserts a function that points to its first revision, which the same transaction must add.
pub(super) async fn insert_function(
    tx: &mut WriteTransaction,
    (tenant, name): (&Tenant, &str),
    (token, now_ms): (&str, i64),
    quotas: &Quotas,
) -> Result<i64> {
    quota::admit_function(tx, quotas).await?;
    let id = sqlx::query_scalar(
        "INSERT INTO functions (tenant, name, token, active_revision, created_ms, updated_ms)
         VALUES ($1, $2, $3, 1, $4, $4) RETURNING id",
    )
    .bind(tenant.as_str())
    .bind(name)
    .bind(token)
    .bind(now_ms)
    .fetch_one(&mut **tx)
    .await?;
    Ok(id)
}

/// The tree that settings name. Garbage collection takes no tree between this and the commit.
pub(super) async fn tree_of(
    tx: &mut WriteTransaction,
    tenant: &Tenant,
    settings: &Settings,
) -> Result<Option<i64>> {
    let Some(files) = &settings.files else { return Ok(None) };
    match tree_id(&mut **tx, tenant, &files.tree).await? {
        Some(id) => Ok(Some(id)),
        None => Err(Error::NoSuchTree),
    }
}

/// Whether a revision with the same version runs another artifact.
pub(super) async fn is_taken(
    tx: &mut WriteTransaction,
    function_id: i64,
    release: &Release,
    digest: &Digest,
) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM revisions
                        WHERE function_id = $1 AND semver = $2 AND digest <> $3)",
    )
    .bind(function_id)
    .bind(release.semver.as_deref())
    .bind(digest.as_bytes().as_slice())
    .fetch_one(&mut **tx)
    .await?)
}

/// Adds a revision with the next number, and moves the channels that follow it: the default one, in
/// which `was` is active, if its owner has not tied it to something else. Returns the revision's
/// number, and the version of the function.
pub(super) async fn insert_revision(
    tx: &mut WriteTransaction,
    was: Option<u32>,
    row: RevisionRow<'_>,
) -> Result<(u32, u64)> {
    let RevisionRow { function_id, digest, kind, tree, settings, release, made } = row;
    // The newest revision is deleted only with its function, so the maximum is the last number used.
    let number: u32 = sqlx::query_scalar(
        "INSERT INTO revisions (function_id, number, digest, kind, settings, created_ms,
                                semver, labels, deployed_by, deployed_from, tree)
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9, $10
         FROM revisions WHERE function_id = $1
         RETURNING number",
    )
    .bind(function_id)
    .bind(digest.as_bytes().as_slice())
    .bind(kind)
    .bind(to_json(settings))
    .bind(made.now_ms)
    .bind(release.semver.as_deref())
    .bind(to_json(&release.labels))
    .bind(made.actor.token)
    .bind(made.actor.origin)
    .bind(tree)
    .fetch_one(&mut **tx)
    .await?;
    let active = follow(tx, function_id, made).await?.unwrap_or(number);
    let version: i64 = sqlx::query_scalar(
        "UPDATE functions SET active_revision = $1, version = version + 1, updated_ms = $2
         WHERE id = $3 RETURNING version",
    )
    .bind(active)
    .bind(made.now_ms)
    .bind(function_id)
    .fetch_one(&mut **tx)
    .await?;
    record(tx, function_id, Moved::default(was, active), made).await?;
    Ok((number, version.cast_unsigned()))
}
