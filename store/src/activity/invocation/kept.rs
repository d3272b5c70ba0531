//! Reads calls, runs dead ones again, and removes them.

use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use crate::{
    Result, Store, Tenant,
    activity::invocation::{
        CallState, Cause, Invocation, lane::Lane, read_cause, read_invocation, read_state,
    },
};

/// Calls that one transaction removes or changes. Writers wait a few milliseconds for it.
pub(in crate::activity) const BATCH: i64 = 1_000;

/// Selects calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvocationFilter {
    /// Only calls of the function of this name.
    pub function: Option<String>,
    /// Only calls in this state.
    pub state: Option<CallState>,
    /// Only calls in this lane.
    pub lane: Option<Lane>,
}

/// A call in a list: all but what was sent and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvocationSummary {
    /// The cursor.
    pub seq: i64,
    /// The id.
    pub id: String,
    /// The name of the function.
    pub function: String,
    /// What caused it.
    pub cause: Cause,
    /// The name of what it came through.
    pub source: Option<String>,
    /// How far it is.
    pub state: CallState,
    /// How many attempts have begun.
    pub attempt: u32,
    /// When it was made, in Unix milliseconds.
    pub created_ms: i64,
    /// When it may run.
    pub due_ms: i64,
    /// When it is given up.
    pub expires_ms: i64,
    /// When it got its last state.
    pub finished_ms: Option<i64>,
    /// Why the last attempt has failed.
    pub last_error: Option<String>,
    /// The status of the last answer.
    pub answer_status: Option<u16>,
}

/// How long, and how many, calls that have ended are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepInvocations {
    /// Answers that were stored before this time are removed.
    pub results_before_ms: i64,
    /// Dead calls that ended before this time are removed.
    pub dead_before_ms: i64,
    /// So many dead ones of a lane are kept, and as many others that have ended: the newest.
    pub per_lane: u64,
    /// All that have ended take at most so many bytes. The oldest go first.
    pub bytes: u64,
}

/// How many calls were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovedInvocations {
    /// Calls that had succeeded or were cancelled.
    pub results: u64,
    /// Dead ones.
    pub dead: u64,
}

impl Store {
    /// A call.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::Database`](crate::Error::Database),
    /// [`Error::Inconsistent`](crate::Error::Inconsistent).
    pub async fn invocation(&self, tenant: &Tenant, id: &str) -> Result<Option<Invocation>> {
        let found = sqlx::query("SELECT * FROM invocations WHERE tenant = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(id)
            .fetch_optional(self.queue_db().readers())
            .await?;
        found.as_ref().map(read_invocation).transpose()
    }

    /// Calls, newest first: those before the cursor, or the newest.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::Database`](crate::Error::Database),
    /// [`Error::Inconsistent`](crate::Error::Inconsistent).
    pub async fn invocations(
        &self,
        tenant: &Tenant,
        filter: &InvocationFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<InvocationSummary>> {
        let mut select = QueryBuilder::<Sqlite>::new(
            "SELECT seq, id, function, cause, source, state, attempt, created_ms, due_ms, expires_ms,
                    finished_ms, last_error, answer_status
             FROM invocations WHERE ",
        );
        push_filter(&mut select, tenant, filter);
        if let Some(before) = before {
            select.push(" AND seq < ").push_bind(before);
        }
        select.push(" ORDER BY seq DESC LIMIT ").push_bind(limit);
        let rows = select.build().fetch_all(self.queue_db().readers()).await?;
        rows.iter().map(read_summary).collect()
    }

    /// Makes dead calls due again, with all their attempts and their whole time. They keep their ids.
    /// Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database). Calls that were changed before the error stay so.
    pub async fn redrive_invocations(
        &self,
        tenant: &Tenant,
        filter: &InvocationFilter,
        id: Option<&str>,
        now_ms: i64,
    ) -> Result<u64> {
        let filter = InvocationFilter { state: Some(CallState::Dead), ..filter.clone() };
        self.in_batches(|statement| {
            statement.push("UPDATE invocations SET state = 0, attempt = 0, due_ms = ");
            statement.push_bind(now_ms);
            statement.push(", expires_ms = expires_ms - created_ms + ").push_bind(now_ms);
            statement.push(", created_ms = ").push_bind(now_ms).push(", finished_ms = NULL");
            push_some(statement, tenant, &filter, id);
        })
        .await
    }

    /// Removes calls that do not run. Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database). Calls that were removed before the error stay
    /// removed.
    pub async fn purge_invocations(
        &self,
        tenant: &Tenant,
        filter: &InvocationFilter,
        id: Option<&str>,
    ) -> Result<u64> {
        self.in_batches(|statement| {
            statement.push("DELETE FROM invocations");
            push_some(statement, tenant, filter, id);
        })
        .await
    }

    /// Cancels a call that has not begun, or waits for another attempt. Returns whether it did.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database).
    pub async fn cancel_invocation(&self, tenant: &Tenant, id: &str, now_ms: i64) -> Result<bool> {
        let cancel = sqlx::query(
            "UPDATE invocations SET state = 4, finished_ms = $1
             WHERE tenant = $2 AND id = $3 AND state = 0",
        );
        let cancel = cancel.bind(now_ms).bind(tenant.as_str()).bind(id);
        Ok(self.queue_db().change(cancel).await? > 0)
    }

    /// Removes calls that ended and need not be kept, and lanes in which nothing is.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database). What was removed before the error stays removed.
    pub async fn trim_invocations(&self, keep: KeepInvocations) -> Result<RemovedInvocations> {
        let dead = self.remove_before("state = 3", keep.dead_before_ms).await?
            + self.remove_beyond("state = 3", "dead", keep.per_lane).await?;
        let results = self.remove_before("state IN (2, 4)", keep.results_before_ms).await?
            + self.remove_beyond("state IN (2, 4)", "done", keep.per_lane).await?;
        let mut removed = RemovedInvocations { results, dead };
        self.remove_oldest(keep.bytes, &mut removed).await?;
        let empty = sqlx::query(
            "DELETE FROM invocation_lanes WHERE due = 0 AND running = 0 AND dead = 0 AND done = 0",
        );
        // A look first: a write would flush to the disk for nothing.
        let any: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM invocation_lanes
             WHERE due = 0 AND running = 0 AND dead = 0 AND done = 0",
        )
        .fetch_one(self.queue_db().readers())
        .await?;
        if any > 0 {
            self.queue_db().change(empty).await?;
        }
        Ok(removed)
    }

    /// Removes calls in a state that ended before a time.
    async fn remove_before(&self, state: &'static str, before_ms: i64) -> Result<u64> {
        // A look first: mostly there is nothing, and a writer would have to wait for its turn.
        let mut any = QueryBuilder::<Sqlite>::new("SELECT seq FROM invocations WHERE ");
        push_ended(&mut any, state, before_ms, 1);
        let any: Option<i64> =
            any.build_query_scalar().fetch_optional(self.queue_db().readers()).await?;
        if any.is_none() {
            return Ok(0);
        }
        self.in_batches(|statement| {
            statement
                .push("DELETE FROM invocations WHERE seq IN (SELECT seq FROM invocations WHERE ");
            push_ended(statement, state, before_ms, BATCH);
            statement.push(")");
        })
        .await
    }

    /// Removes all but the newest calls in a state, of each lane that has more.
    async fn remove_beyond(
        &self,
        state: &'static str,
        column: &'static str,
        most: u64,
    ) -> Result<u64> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut lanes = QueryBuilder::<Sqlite>::new("SELECT lane FROM invocation_lanes WHERE ");
        lanes.push(column).push(" > ").push_bind(most);
        let lanes: Vec<String> =
            lanes.build_query_scalar().fetch_all(self.queue_db().readers()).await?;
        let mut removed = 0;
        for lane in &lanes {
            removed += self
                .in_batches(|statement| {
                    statement.push("DELETE FROM invocations WHERE seq IN (SELECT seq FROM invocations WHERE lane = ");
                    statement.push_bind(lane.clone()).push(" AND ").push(state);
                    statement.push(" ORDER BY finished_ms DESC LIMIT ").push_bind(BATCH);
                    statement.push(" OFFSET ").push_bind(most).push(")");
                })
                .await?;
        }
        Ok(removed)
    }

    /// Removes the oldest calls that ended, until the rest takes no more than `most` bytes.
    async fn remove_oldest(&self, most: u64, removed: &mut RemovedInvocations) -> Result<()> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        loop {
            let kept: i64 =
                sqlx::query_scalar("SELECT COALESCE(SUM(kept_bytes), 0) FROM invocation_lanes")
                    .fetch_one(self.queue_db().readers())
                    .await?;
            if kept <= most {
                return Ok(());
            }
            let mut tx = self.queue_db().begin().await?;
            let gone: Vec<i64> = sqlx::query_scalar(
                "DELETE FROM invocations WHERE seq IN (
                     SELECT seq FROM invocations WHERE state >= 2 ORDER BY finished_ms LIMIT $1)
                 RETURNING state",
            )
            .bind(BATCH / 10)
            .fetch_all(&mut *tx)
            .await?;
            tx.commit().await?;
            if gone.is_empty() {
                return Ok(());
            }
            let dead = gone.iter().filter(|state| **state == 3).count() as u64;
            removed.dead += dead;
            removed.results += gone.len() as u64 - dead;
        }
    }

    /// Executes a statement that changes at most [`BATCH`] calls, until it changes fewer.
    pub(in crate::activity) async fn in_batches(
        &self,
        statement: impl Fn(&mut QueryBuilder<Sqlite>),
    ) -> Result<u64> {
        let mut changed = 0;
        loop {
            let mut builder = QueryBuilder::new("");
            statement(&mut builder);
            let batch = self.queue_db().change(builder.build()).await?;
            changed += batch;
            if batch < BATCH.cast_unsigned() {
                return Ok(changed);
            }
        }
    }
}

/// Selects calls in a state that ended before a time.
fn push_ended(
    statement: &mut QueryBuilder<Sqlite>,
    state: &'static str,
    before_ms: i64,
    most: i64,
) {
    statement.push(state).push(" AND state >= 2 AND finished_ms < ").push_bind(before_ms);
    statement.push(" LIMIT ").push_bind(most);
}

/// Selects some of the calls that a statement may change, which a running one never is.
fn push_some(
    statement: &mut QueryBuilder<Sqlite>,
    tenant: &Tenant,
    filter: &InvocationFilter,
    id: Option<&str>,
) {
    statement.push(" WHERE seq IN (SELECT seq FROM invocations WHERE state <> 1 AND ");
    push_filter(statement, tenant, filter);
    if let Some(id) = id {
        statement.push(" AND id = ").push_bind(id.to_owned());
    }
    statement.push(" LIMIT ").push_bind(BATCH).push(")");
}

fn push_filter(select: &mut QueryBuilder<Sqlite>, tenant: &Tenant, filter: &InvocationFilter) {
    select.push("tenant = ").push_bind(tenant.as_str().to_owned());
    if let Some(function) = &filter.function {
        select.push(" AND function = ").push_bind(function.clone());
    }
    if let Some(state) = filter.state {
        select.push(" AND state = ").push_bind(state.number());
    }
    if let Some(lane) = filter.lane {
        select.push(" AND lane = ").push_bind(lane.to_text());
    }
}

fn read_summary(row: &SqliteRow) -> Result<InvocationSummary> {
    Ok(InvocationSummary {
        seq: row.try_get("seq")?,
        id: row.try_get("id")?,
        function: row.try_get("function")?,
        cause: read_cause(row)?,
        source: row.try_get("source")?,
        state: read_state(row)?,
        attempt: row.try_get("attempt")?,
        created_ms: row.try_get("created_ms")?,
        due_ms: row.try_get("due_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        finished_ms: row.try_get("finished_ms")?,
        last_error: row.try_get("last_error")?,
        answer_status: row.try_get("answer_status")?,
    })
}
