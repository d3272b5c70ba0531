//! Named queues: which function gets their messages, and how. What a document may say is the gateway's to
//! check. The messages themselves are calls in a lane of the queue's.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Error, Quota, Result, Store, Tenant, access::tenant::read_tenant};

/// A stored queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRecord {
    /// Never used again, not even for a queue of the same name.
    pub id: i64,
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

/// What a queue is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutQueue {
    /// The owner.
    pub tenant: Tenant,
    /// Its name.
    pub name: String,
    /// What its owner asks for, as JSON.
    pub document: String,
    /// The time, in Unix milliseconds.
    pub now_ms: i64,
}

impl Store {
    /// All queues of all tenants, ordered by name, for the start.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn all_queues(&self) -> Result<Vec<QueueRecord>> {
        let all = sqlx::query("SELECT * FROM queues ORDER BY tenant, name");
        all.fetch_all(self.main_db().readers()).await?.iter().map(read_queue).collect()
    }

    /// Sets a queue, or replaces all of it, and returns whether it is new. When this returns, it
    /// survives a power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`] if it is new and there are `max` already; [`Error::Busy`],
    /// [`Error::NoSpace`], [`Error::Database`].
    pub async fn put_queue(&self, put: PutQueue, max: u64) -> Result<(QueueRecord, bool)> {
        let PutQueue { tenant, name, document, now_ms } = put;
        let mut tx = self.main_db().begin().await?;
        let before: Option<i64> =
            sqlx::query_scalar("SELECT id FROM queues WHERE tenant = $1 AND name = $2")
                .bind(tenant.as_str())
                .bind(&name)
                .fetch_optional(&mut *tx)
                .await?;
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM queues").fetch_one(&mut *tx).await?;
        if before.is_none() && count.cast_unsigned() >= max {
            tx.rollback().await?;
            return Err(Error::Quota { quota: Quota::Queues, max });
        }
        let row = sqlx::query(
            "INSERT INTO queues (tenant, name, document, created_ms, updated_ms)
             VALUES ($1, $2, $3, $4, $4)
             ON CONFLICT (tenant, name) DO UPDATE SET document = $3, updated_ms = $4
             RETURNING *",
        )
        .bind(tenant.as_str())
        .bind(&name)
        .bind(document)
        .bind(now_ms)
        .fetch_one(&mut *tx)
        .await?;
        let queue = read_queue(&row)?;
        tx.commit().await?;
        Ok((queue, before.is_none()))
    }

    /// Deletes a queue, and returns whether it existed. Its messages are left.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn delete_queue(&self, id: i64) -> Result<bool> {
        let delete = sqlx::query("DELETE FROM queues WHERE id = $1");
        Ok(self.main_db().change(delete.bind(id)).await? > 0)
    }
}

fn read_queue(row: &SqliteRow) -> Result<QueueRecord> {
    Ok(QueueRecord {
        id: row.try_get("id")?,
        tenant: read_tenant(row)?,
        name: row.try_get("name")?,
        document: row.try_get("document")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
    })
}
