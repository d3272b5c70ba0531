//! Routes: which requests go to which function. What a document may say is the gateway's to check.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    Error, Quota, Result, Store, Tenant, access::tenant::read_tenant, sql::WriteTransaction,
};

/// A stored route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRecord {
    /// The owner.
    pub tenant: Tenant,
    /// Unique within its tenant.
    pub name: String,
    /// What its owner asked for, as JSON.
    pub document: String,
    /// When it was first set, in Unix milliseconds.
    pub created_ms: i64,
    /// When it was last set, in Unix milliseconds.
    pub updated_ms: i64,
}

impl Store {
    /// All routes of all tenants, ordered by name, for the start.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn all_routes(&self) -> Result<Vec<RouteRecord>> {
        let all = sqlx::query("SELECT * FROM routes ORDER BY tenant, name");
        all.fetch_all(self.main_db().readers()).await?.iter().map(read_route).collect()
    }

    /// Sets a route, or replaces all of it, and returns whether it is new. When this returns, it
    /// survives a power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`] if it is new and there are `max` already; [`Error::Busy`],
    /// [`Error::NoSpace`], [`Error::Database`].
    pub async fn put_route(
        &self,
        tenant: &Tenant,
        name: &str,
        document: &str,
        max: u64,
        now_ms: i64,
    ) -> Result<(RouteRecord, bool)> {
        let mut tx = self.main_db().begin().await?;
        match put(&mut tx, tenant, (name, document), max, now_ms).await {
            Ok(stored) => {
                tx.commit().await?;
                Ok(stored)
            }
            Err(refused) => {
                tx.rollback().await?;
                Err(refused)
            }
        }
    }

    /// Deletes a route, and returns whether it existed.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn delete_route(&self, tenant: &Tenant, name: &str) -> Result<bool> {
        let delete = sqlx::query("DELETE FROM routes WHERE tenant = $1 AND name = $2");
        Ok(self.main_db().change(delete.bind(tenant.as_str()).bind(name)).await? > 0)
    }
}

/// Sets a route, and returns whether it is new.
pub(crate) async fn put(
    tx: &mut WriteTransaction,
    tenant: &Tenant,
    (name, document): (&str, &str),
    max: u64,
    now_ms: i64,
) -> Result<(RouteRecord, bool)> {
    let others: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM routes WHERE NOT (tenant = $1 AND name = $2)")
            .bind(tenant.as_str())
            .bind(name)
            .fetch_one(&mut **tx)
            .await?;
    if u64::try_from(others).is_ok_and(|others| others >= max) {
        return Err(Error::Quota { quota: Quota::Routes, max });
    }
    let before = sqlx::query("SELECT 1 FROM routes WHERE tenant = $1 AND name = $2")
        .bind(tenant.as_str())
        .bind(name)
        .fetch_optional(&mut **tx)
        .await?;
    let row = sqlx::query(
        "INSERT INTO routes (tenant, name, document, created_ms, updated_ms)
         VALUES ($1, $2, $3, $4, $4)
         ON CONFLICT (tenant, name) DO UPDATE SET document = $3, updated_ms = $4
         RETURNING *",
    )
    .bind(tenant.as_str())
    .bind(name)
    .bind(document)
    .bind(now_ms)
    .fetch_one(&mut **tx)
    .await?;
    Ok((read_route(&row)?, before.is_none()))
}

fn read_route(row: &SqliteRow) -> Result<RouteRecord> {
    Ok(RouteRecord {
        tenant: read_tenant(row)?,
        name: row.try_get("name")?,
        document: row.try_get("document")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
    })
}
