//! Stores of guests' data: their names, and where the data is. The data itself is in backends, which this crate
//! does not know.

use serde::{Deserialize, Serialize};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    Error, Quota, Result, Store, Tenant,
    access::tenant::read_tenant,
    sql::{json, to_json},
};

/// What the data of a store may be. `None`: what the operator has set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreQuota {
    /// Bytes of all keys, values and texts.
    pub bytes: Option<u64>,
    /// Keys.
    pub keys: Option<u64>,
}

/// A store of guests' data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRecord {
    /// Never used again, not even for a store of the same kind and name.
    pub id: i64,
    /// The owner.
    pub tenant: Tenant,
    /// What it keeps.
    pub kind: String,
    /// Unique within its tenant and kind.
    pub name: String,
    /// The name of the backend that has its data.
    pub backend: String,
    /// What its owner asked for.
    pub quota: StoreQuota,
    /// When it was made, in Unix milliseconds.
    pub created_ms: i64,
    /// When it was last changed, in Unix milliseconds.
    pub updated_ms: i64,
}

/// A store to be made, or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutStore {
    /// The owner.
    pub tenant: Tenant,
    /// What it keeps.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The name of the backend that is to have its data.
    pub backend: &'static str,
    /// What its data may be.
    pub quota: StoreQuota,
    /// The time, in Unix milliseconds.
    pub now_ms: i64,
}

impl Store {
    /// All stores of all tenants, ordered by name, for the start.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn all_stores(&self) -> Result<Vec<StoreRecord>> {
        sqlx::query("SELECT * FROM stores ORDER BY tenant, kind, name")
            .fetch_all(self.main_db().readers())
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// Makes a store, or changes its quota, and returns whether it is new. When this returns, it survives a
    /// power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`] if it is new and there are `max` already; [`Error::Conflict`] if it has its data in
    /// another backend; [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn put_store(&self, put: PutStore, max: u64) -> Result<(StoreRecord, bool)> {
        let PutStore { tenant, kind, name, backend, quota, now_ms } = put;
        let mut tx = self.main_db().begin().await?;
        let before: Option<String> = sqlx::query_scalar(
            "SELECT backend FROM stores WHERE tenant = $1 AND kind = $2 AND name = $3",
        )
        .bind(tenant.as_str())
        .bind(kind)
        .bind(&name)
        .fetch_optional(&mut *tx)
        .await?;
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM stores").fetch_one(&mut *tx).await?;
        let refused = match &before {
            Some(before) => (before != backend).then_some(Error::Conflict),
            None => {
                (count.cast_unsigned() >= max).then_some(Error::Quota { quota: Quota::Stores, max })
            }
        };
        if let Some(refused) = refused {
            tx.rollback().await?;
            return Err(refused);
        }
        let row = sqlx::query(
            "INSERT INTO stores (tenant, kind, name, backend, quota, created_ms, updated_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $6)
             ON CONFLICT (tenant, kind, name) DO UPDATE SET quota = $5, updated_ms = $6
             RETURNING *",
        )
        .bind(tenant.as_str())
        .bind(kind)
        .bind(&name)
        .bind(backend)
        .bind(to_json(&quota))
        .bind(now_ms)
        .fetch_one(&mut *tx)
        .await?;
        let stored = read(&row)?;
        tx.commit().await?;
        Ok((stored, before.is_none()))
    }

    /// Deletes a store, and returns whether it existed. Its data is left in its backend.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn delete_store(&self, id: i64) -> Result<bool> {
        let delete = sqlx::query("DELETE FROM stores WHERE id = $1").bind(id);
        Ok(self.main_db().change(delete).await? > 0)
    }
}

fn read(row: &SqliteRow) -> Result<StoreRecord> {
    Ok(StoreRecord {
        id: row.try_get("id")?,
        tenant: read_tenant(row)?,
        kind: row.try_get("kind")?,
        name: row.try_get("name")?,
        backend: row.try_get("backend")?,
        quota: json(row, "quota")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
    })
}
