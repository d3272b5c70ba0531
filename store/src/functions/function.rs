//! Functions by name: reading, describing and deleting them.

use sqlx::{Row as _, SqliteExecutor, sqlite::SqliteRow};

use crate::{
    Digest, Result, Revision, Store, Tenant,
    access::tenant::read_tenant,
    functions::revision::{read_revision, revision_columns},
};

/// A function: a name of a tenant that points to one of the function's revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRecord {
    /// Unique across tenants, and never used again: a function that is created after this one was
    /// deleted has another id, also under the same name.
    pub id: i64,
    /// The owner.
    pub tenant: Tenant,
    /// Unique within its tenant.
    pub name: String,
    /// The id of the token that has created it; empty if that is not known.
    pub token: String,
    /// The description that its owner gave. May be empty.
    pub description: String,
    /// When it was first published, in Unix milliseconds.
    pub created_ms: i64,
    /// When the description or the active revision last changed, in Unix milliseconds.
    pub updated_ms: i64,
    /// Grows with every change of the function, so that no two of its states have the same.
    pub version: u64,
    /// The number of the revision that invocations run.
    pub active_revision: u32,
}

/// A function with the revision that its invocations run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveFunction {
    /// The function.
    pub function: FunctionRecord,
    /// Its active revision.
    pub revision: Revision,
}

/// Selects the columns that [`active_function`] reads, from functions `f` joined with their active
/// revision `r` and its artifact `a`.
macro_rules! select_active {
    ($rest:literal) => {
        concat!(
            "SELECT f.id, f.tenant, f.name, f.token, f.description, f.active_revision, f.version,
                    f.created_ms AS function_created_ms, f.updated_ms, ",
            revision_columns!(),
            "FROM functions f
             JOIN revisions r ON r.function_id = f.id AND r.number = f.active_revision
             JOIN artifacts a ON a.digest = r.digest ",
            $rest
        )
    };
}

impl Store {
    /// The function of this name with its active revision.
    ///
    /// # Errors
    ///
    /// [`Busy`](crate::Error::Busy), [`Database`](crate::Error::Database),
    /// [`Inconsistent`](crate::Error::Inconsistent).
    pub async fn function(&self, tenant: &Tenant, name: &str) -> Result<Option<ActiveFunction>> {
        find(self.main_db().readers(), tenant, name).await
    }

    /// At most `limit` functions of a tenant, ordered by the bytes of their names, starting after
    /// the name `after`.
    ///
    /// # Errors
    ///
    /// As [`Store::function`].
    pub async fn functions(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ActiveFunction>> {
        sqlx::query(select_active!(
            "WHERE f.tenant = $1 AND ($2 IS NULL OR f.name > $2) ORDER BY f.name LIMIT $3"
        ))
        .bind(tenant.as_str())
        .bind(after)
        .bind(limit)
        .fetch_all(self.main_db().readers())
        .await?
        .iter()
        .map(active_function)
        .collect()
    }

    /// All functions of all tenants, ordered by id, in one query, for the start.
    ///
    /// # Errors
    ///
    /// As [`Store::function`].
    pub async fn all_active(&self) -> Result<Vec<ActiveFunction>> {
        sqlx::query(select_active!("ORDER BY f.id"))
            .fetch_all(self.main_db().readers())
            .await?
            .iter()
            .map(active_function)
            .collect()
    }

    /// The function, if its active revision runs the artifact `digest`. An upload of the same bytes
    /// then needs no revision.
    ///
    /// # Errors
    ///
    /// As [`Store::function`].
    pub async fn is_active_digest(
        &self,
        tenant: &Tenant,
        function: &str,
        digest: &Digest,
    ) -> Result<Option<ActiveFunction>> {
        let active = self.function(tenant, function).await?;
        Ok(active.filter(|active| active.revision.digest == *digest))
    }

    /// Replaces a function's description. `None` when the function does not exist.
    ///
    /// # Errors
    ///
    /// [`Busy`](crate::Error::Busy), [`NoSpace`](crate::Error::NoSpace),
    /// [`Database`](crate::Error::Database), [`Inconsistent`](crate::Error::Inconsistent).
    pub async fn describe(
        &self,
        tenant: &Tenant,
        function: &str,
        description: &str,
        now_ms: i64,
    ) -> Result<Option<ActiveFunction>> {
        let mut tx = self.main_db().begin().await?;
        sqlx::query(
            "UPDATE functions SET description = $1, version = version + 1, updated_ms = $2
             WHERE tenant = $3 AND name = $4",
        )
        .bind(description)
        .bind(now_ms)
        .bind(tenant.as_str())
        .bind(function)
        .execute(&mut *tx)
        .await?;
        let described = find(&mut *tx, tenant, function).await?;
        tx.commit().await?;
        Ok(described)
    }

    /// Deletes a function with all its revisions, and returns whether it existed. Its artifacts
    /// stay until [`Store::collect_garbage`], its log lines until [`Store::trim_logs`].
    ///
    /// # Errors
    ///
    /// [`Busy`](crate::Error::Busy), [`NoSpace`](crate::Error::NoSpace),
    /// [`Database`](crate::Error::Database).
    pub async fn delete_function(&self, tenant: &Tenant, name: &str) -> Result<bool> {
        let delete = sqlx::query("DELETE FROM functions WHERE tenant = $1 AND name = $2");
        Ok(self.main_db().change(delete.bind(tenant.as_str()).bind(name)).await? > 0)
    }
}

/// Looks up a function, inside or outside a transaction.
pub(crate) async fn find(
    db: impl SqliteExecutor<'_>,
    tenant: &Tenant,
    name: &str,
) -> Result<Option<ActiveFunction>> {
    sqlx::query(select_active!("WHERE f.tenant = $1 AND f.name = $2"))
        .bind(tenant.as_str())
        .bind(name)
        .fetch_optional(db)
        .await?
        .as_ref()
        .map(active_function)
        .transpose()
}

fn active_function(row: &SqliteRow) -> Result<ActiveFunction> {
    let version: i64 = row.try_get("version")?;
    let function = FunctionRecord {
        id: row.try_get("id")?,
        tenant: read_tenant(row)?,
        name: row.try_get("name")?,
        token: row.try_get("token")?,
        description: row.try_get("description")?,
        created_ms: row.try_get("function_created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
        version: version.cast_unsigned(),
        active_revision: row.try_get("active_revision")?,
    };
    Ok(ActiveFunction { function, revision: read_revision(row)? })
}
