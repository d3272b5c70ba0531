//! Documents of owners, by name: what a queue or a flow is to be. What a document may say is the gateway's to
//! check.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    Error, Quota, Result, Store, Tenant, access::tenant::read_tenant, sql::WriteTransaction,
};

/// A stored document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentRecord {
    /// Never used again, not even for a document of the same kind and name.
    pub id: i64,
    /// The owner.
    pub tenant: Tenant,
    /// Unique within its tenant and kind.
    pub name: String,
    /// What its owner asked for, as JSON.
    pub document: String,
    /// When it was first set, in Unix milliseconds.
    pub created_ms: i64,
    /// When it was last set, in Unix milliseconds.
    pub updated_ms: i64,
}

/// What is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutDocument {
    /// The owner.
    pub tenant: Tenant,
    /// Its name.
    pub name: String,
    /// What its owner asks for, as JSON.
    pub document: String,
    /// The time, in Unix milliseconds.
    pub now_ms: i64,
}

/// A kind of documents: the statements for its table, and the quota of all owners.
pub(crate) struct Documents {
    all: &'static str,
    id: &'static str,
    count: &'static str,
    put: &'static str,
    delete: &'static str,
    quota: Quota,
}

/// The statements for a table with the columns of [`DocumentRecord`].
macro_rules! documents {
    ($table:literal, $quota:expr) => {
        Documents {
            all: concat!("SELECT * FROM ", $table, " ORDER BY tenant, name"),
            id: concat!("SELECT id FROM ", $table, " WHERE tenant = $1 AND name = $2"),
            count: concat!("SELECT COUNT(*) FROM ", $table),
            put: concat!(
                "INSERT INTO ",
                $table,
                " (tenant, name, document, created_ms, updated_ms) VALUES ($1, $2, $3, $4, $4)
                 ON CONFLICT (tenant, name) DO UPDATE SET document = $3, updated_ms = $4
                 RETURNING *"
            ),
            delete: concat!("DELETE FROM ", $table, " WHERE id = $1"),
            quota: $quota,
        }
    };
}

pub(crate) const QUEUES: Documents = documents!("queues", Quota::Queues);
pub(crate) const FLOWS: Documents = documents!("flows", Quota::Flows);

impl Documents {
    /// Those of all tenants, ordered by name.
    pub(super) async fn all(&self, store: &Store) -> Result<Vec<DocumentRecord>> {
        let rows = sqlx::query(self.all).fetch_all(store.main_db().readers()).await?;
        rows.iter().map(read).collect()
    }

    /// Sets one, or replaces all of it, and returns whether it is new; at most `max` are stored.
    pub(super) async fn put(
        &self,
        store: &Store,
        put: PutDocument,
        max: u64,
    ) -> Result<(DocumentRecord, bool)> {
        let mut tx = store.main_db().begin().await?;
        match self.put_in(&mut tx, put, max).await {
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

    /// The same within a transaction.
    pub(crate) async fn put_in(
        &self,
        tx: &mut WriteTransaction,
        put: PutDocument,
        max: u64,
    ) -> Result<(DocumentRecord, bool)> {
        let PutDocument { tenant, name, document, now_ms } = put;
        let before: Option<i64> = sqlx::query_scalar(self.id)
            .bind(tenant.as_str())
            .bind(&name)
            .fetch_optional(&mut **tx)
            .await?;
        let count: i64 = sqlx::query_scalar(self.count).fetch_one(&mut **tx).await?;
        if before.is_none() && count.cast_unsigned() >= max {
            return Err(Error::Quota { quota: self.quota, max });
        }
        let row = sqlx::query(self.put)
            .bind(tenant.as_str())
            .bind(&name)
            .bind(document)
            .bind(now_ms)
            .fetch_one(&mut **tx)
            .await?;
        Ok((read(&row)?, before.is_none()))
    }

    /// Deletes one, and returns whether it existed.
    pub(super) async fn delete(&self, store: &Store, id: i64) -> Result<bool> {
        Ok(store.main_db().change(sqlx::query(self.delete).bind(id)).await? > 0)
    }
}

fn read(row: &SqliteRow) -> Result<DocumentRecord> {
    Ok(DocumentRecord {
        id: row.try_get("id")?,
        tenant: read_tenant(row)?,
        name: row.try_get("name")?,
        document: row.try_get("document")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
    })
}
