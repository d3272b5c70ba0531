//! Revisions: immutable deployments of a function.

use std::collections::BTreeMap;

use sqlx::{Row as _, SqliteExecutor, sqlite::SqliteRow};

use crate::{
    Digest, Quotas, Result, Settings, Store, Tenant,
    sql::{WriteTransaction, json, sha256},
};

/// One immutable deployment of a function: an artifact, and how to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The function it belongs to.
    pub function_id: i64,
    /// Counts from 1 within its function, and is never used again in it.
    pub number: u32,
    /// The artifact that it runs.
    pub digest: Digest,
    /// The artifact's size.
    pub bytes: u64,
    /// The kind of Wasm binary, as the publisher named it.
    pub kind: String,
    /// The settings that its owner asked for.
    pub settings: Settings,
    /// What its publisher says of it.
    pub release: Release,
    /// The id of the token that published it; empty if that is not known.
    pub deployed_by: String,
    /// The address of the client that published it; empty if that is not known.
    pub deployed_from: String,
    /// When it was published, in Unix milliseconds.
    pub created_ms: i64,
}

/// What a publisher says of a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// Its semantic version. Revisions of one function with the same version run the same artifact.
    pub semver: Option<String>,
    /// Names and values, such as the commit that it was built from.
    pub labels: BTreeMap<String, String>,
}

/// The columns that [`read_revision`] reads, of a revision `r` and its artifact `a`.
macro_rules! revision_columns {
    () => {
        "r.function_id, r.number, r.digest, a.bytes, r.kind, r.settings, r.created_ms,
         r.semver, r.labels, r.deployed_by, r.deployed_from "
    };
}
pub(crate) use revision_columns;

/// Selects the columns that [`read_revision`] reads, from revisions `r` of the function with tenant
/// `$1` and name `$2`.
macro_rules! select_revisions {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            revision_columns!(),
            "FROM functions f
             JOIN revisions r ON r.function_id = f.id
             JOIN artifacts a ON a.digest = r.digest
             WHERE f.tenant = $1 AND f.name = $2 ",
            $rest
        )
    };
}

impl Store {
    /// One revision of a function. `None` when the function or the revision does not exist.
    ///
    /// # Errors
    ///
    /// [`Busy`](crate::Error::Busy), [`Database`](crate::Error::Database),
    /// [`Inconsistent`](crate::Error::Inconsistent).
    pub async fn revision(
        &self,
        tenant: &Tenant,
        function: &str,
        number: u32,
    ) -> Result<Option<Revision>> {
        sqlx::query(select_revisions!("AND r.number = $3"))
            .bind(tenant.as_str())
            .bind(function)
            .bind(number)
            .fetch_optional(self.main_db().readers())
            .await?
            .as_ref()
            .map(read_revision)
            .transpose()
    }

    /// At most `limit` revisions of a function, newest first, starting below the number `before`.
    /// Empty when the function does not exist.
    ///
    /// # Errors
    ///
    /// As [`Store::revision`].
    pub async fn revisions(
        &self,
        tenant: &Tenant,
        function: &str,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Revision>> {
        sqlx::query(select_revisions!(
            "AND ($3 IS NULL OR r.number < $3) ORDER BY r.number DESC LIMIT $4"
        ))
        .bind(tenant.as_str())
        .bind(function)
        .bind(before)
        .bind(limit)
        .fetch_all(self.main_db().readers())
        .await?
        .iter()
        .map(read_revision)
        .collect()
    }
}

/// Removes the oldest revisions of a function that exceed the quota, and returns their numbers. The
/// newest revision stays, and so do those that a channel points to.
pub(crate) async fn trim(
    tx: &mut WriteTransaction,
    function_id: i64,
    quotas: &Quotas,
) -> Result<Vec<u32>> {
    let keep = i64::try_from(quotas.revisions_per_function.max(1)).unwrap_or(i64::MAX);
    let mut removed: Vec<u32> = sqlx::query_scalar(
        "DELETE FROM revisions WHERE function_id = $1 AND number <= (
             SELECT number FROM revisions WHERE function_id = $1
             ORDER BY number DESC LIMIT 1 OFFSET $2)
           AND number <> (SELECT active_revision FROM functions WHERE id = $1)
           AND number NOT IN (SELECT revision FROM channels WHERE function_id = $1)
           AND number NOT IN (
               SELECT w.value ->> 'revision' FROM channels c, json_each(c.weights) w
               WHERE c.function_id = $1)
           AND number NOT IN (
               SELECT options ->> '$.shadow.revision' FROM channels
               WHERE function_id = $1 AND options ->> '$.shadow.revision' IS NOT NULL)
         RETURNING number",
    )
    .bind(function_id)
    .bind(keep)
    .fetch_all(&mut **tx)
    .await?;
    removed.sort_unstable();
    Ok(removed)
}

/// A revision that exists, inside or outside a transaction.
pub(crate) async fn revision_of(
    db: impl SqliteExecutor<'_>,
    function_id: i64,
    number: u32,
) -> Result<Revision> {
    let row = sqlx::query(concat!(
        "SELECT ",
        revision_columns!(),
        "FROM revisions r JOIN artifacts a ON a.digest = r.digest
         WHERE r.function_id = $1 AND r.number = $2"
    ))
    .bind(function_id)
    .bind(number)
    .fetch_one(db)
    .await?;
    read_revision(&row)
}

/// Reads a revision `r` joined with its artifact.
pub(crate) fn read_revision(row: &SqliteRow) -> Result<Revision> {
    let bytes: i64 = row.try_get("bytes")?;
    Ok(Revision {
        function_id: row.try_get("function_id")?,
        number: row.try_get("number")?,
        digest: Digest::from_bytes(sha256(row, "digest")?),
        // The schema refuses negative sizes.
        bytes: bytes.cast_unsigned(),
        kind: row.try_get("kind")?,
        settings: json(row, "settings")?,
        release: Release { semver: row.try_get("semver")?, labels: json(row, "labels")? },
        deployed_by: row.try_get("deployed_by")?,
        deployed_from: row.try_get("deployed_from")?,
        created_ms: row.try_get("created_ms")?,
    })
}
