//! Schedules: when functions are called, by the calendar. What a document may say is the gateway's to
//! check.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    Error, Quota, Result, Store, Tenant, access::tenant::read_tenant, sql::WriteTransaction,
};

/// A stored schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRecord {
    /// Never used again, not even for a schedule of the same name.
    pub id: i64,
    /// The owner.
    pub tenant: Tenant,
    /// Unique within its tenant.
    pub name: String,
    /// What its owner asked for, as JSON.
    pub document: String,
    /// Random, and kept as long as the schedule. The ids of its calls are made of it.
    pub seed: String,
    /// Nothing due at this time or before counts, in Unix milliseconds.
    pub since_ms: i64,
    /// When it was first set, in Unix milliseconds.
    pub created_ms: i64,
    /// When it was last set, in Unix milliseconds.
    pub updated_ms: i64,
}

/// What a schedule is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutSchedule {
    /// The owner.
    pub tenant: Tenant,
    /// Its name.
    pub name: String,
    /// What its owner asks for, as JSON.
    pub document: String,
    /// Random; only a new schedule takes it.
    pub seed: String,
    /// Nothing due at this time or before counts, in Unix milliseconds.
    pub since_ms: i64,
    /// The time, in Unix milliseconds.
    pub now_ms: i64,
}

impl Store {
    /// All schedules of all tenants, ordered by name, for the start.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn all_schedules(&self) -> Result<Vec<ScheduleRecord>> {
        let all = sqlx::query("SELECT * FROM schedules ORDER BY tenant, name");
        all.fetch_all(self.main_db().readers()).await?.iter().map(read_schedule).collect()
    }

    /// A schedule.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn schedule(&self, tenant: &Tenant, name: &str) -> Result<Option<ScheduleRecord>> {
        let found = sqlx::query("SELECT * FROM schedules WHERE tenant = $1 AND name = $2")
            .bind(tenant.as_str())
            .bind(name)
            .fetch_optional(self.main_db().readers())
            .await?;
        found.as_ref().map(read_schedule).transpose()
    }

    /// A schedule by its id.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn schedule_by_id(&self, id: i64) -> Result<Option<ScheduleRecord>> {
        let found = sqlx::query("SELECT * FROM schedules WHERE id = $1").bind(id);
        let found = found.fetch_optional(self.main_db().readers()).await?;
        found.as_ref().map(read_schedule).transpose()
    }

    /// The schedules of a tenant after a name, at most `limit`, ordered by name.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn schedules(
        &self,
        tenant: &Tenant,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ScheduleRecord>> {
        let page = sqlx::query(
            "SELECT * FROM schedules WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(after)
        .bind(limit);
        page.fetch_all(self.main_db().readers()).await?.iter().map(read_schedule).collect()
    }

    /// Sets a schedule, or replaces all of it, and returns whether it is new. When this returns, it
    /// survives a power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`] if it is new and there are `max` already; [`Error::Busy`],
    /// [`Error::NoSpace`], [`Error::Database`].
    pub async fn put_schedule(&self, put: PutSchedule, max: u64) -> Result<(ScheduleRecord, bool)> {
        let mut tx = self.main_db().begin().await?;
        match self::put(&mut tx, put, max).await {
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

    /// Deletes a schedule, and returns whether it existed.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn delete_schedule(&self, tenant: &Tenant, name: &str) -> Result<bool> {
        let delete = sqlx::query("DELETE FROM schedules WHERE tenant = $1 AND name = $2");
        Ok(self.main_db().change(delete.bind(tenant.as_str()).bind(name)).await? > 0)
    }
}

/// Sets a schedule, and returns whether it is new.
pub(crate) async fn put(
    tx: &mut WriteTransaction,
    put: PutSchedule,
    max: u64,
) -> Result<(ScheduleRecord, bool)> {
    let PutSchedule { tenant, name, document, seed, since_ms, now_ms } = put;
    let before: Option<i64> =
        sqlx::query_scalar("SELECT id FROM schedules WHERE tenant = $1 AND name = $2")
            .bind(tenant.as_str())
            .bind(&name)
            .fetch_optional(&mut **tx)
            .await?;
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM schedules").fetch_one(&mut **tx).await?;
    if before.is_none() && count.cast_unsigned() >= max {
        return Err(Error::Quota { quota: Quota::Schedules, max });
    }
    let row = sqlx::query(
        "INSERT INTO schedules (tenant, name, document, since_ms, created_ms, updated_ms, seed)
         VALUES ($1, $2, $3, $4, $5, $5, $6)
         ON CONFLICT (tenant, name) DO UPDATE SET document = $3, since_ms = $4, updated_ms = $5
         RETURNING *",
    )
    .bind(tenant.as_str())
    .bind(&name)
    .bind(document)
    .bind(since_ms)
    .bind(now_ms)
    .bind(seed)
    .fetch_one(&mut **tx)
    .await?;
    Ok((read_schedule(&row)?, before.is_none()))
}

fn read_schedule(row: &SqliteRow) -> Result<ScheduleRecord> {
    Ok(ScheduleRecord {
        id: row.try_get("id")?,
        tenant: read_tenant(row)?,
        name: row.try_get("name")?,
        document: row.try_get("document")?,
        seed: row.try_get("seed")?,
        since_ms: row.try_get("since_ms")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
    })
}
