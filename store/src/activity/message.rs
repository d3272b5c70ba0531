//! Messages: calls in the lane of a named queue, which wait for whichever function gets them.

use sqlx::Row as _;

use crate::{
    CallState, Result, Store,
    activity::invocation::{
        StoredFields,
        kept::BATCH,
        lane::{Lane, LaneTotals, read_totals},
    },
};

/// Selects messages of a queue, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePage {
    /// In which state they are.
    pub state: CallState,
    /// Only messages after the one with this cursor.
    pub after: i64,
    /// At most so many.
    pub limit: u32,
    /// So many bytes of each body are read.
    pub body_bytes: u32,
}

/// A message as it waits, or as it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingMessage {
    /// The cursor.
    pub seq: i64,
    /// The id.
    pub id: String,
    /// The queue to which it was published, by its name.
    pub source: Option<String>,
    /// How many attempts have begun.
    pub attempt: u32,
    /// When it was published, in Unix milliseconds.
    pub created_ms: i64,
    /// When it may be delivered.
    pub due_ms: i64,
    /// When it is given up.
    pub expires_ms: i64,
    /// When it got its last state, if that is its last.
    pub finished_ms: Option<i64>,
    /// Why the last attempt has failed.
    pub last_error: Option<String>,
    /// Its content type and attributes, as header fields.
    pub fields: StoredFields,
    /// The beginning of its body.
    pub body: Vec<u8>,
    /// The bytes of the whole body.
    pub body_bytes: u64,
}

/// Messages that move to another queue when they are given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedMessages {
    /// The other queue.
    pub queue: i64,
    /// When they are given up there, in Unix milliseconds.
    pub expires_ms: i64,
    /// Only those that were published to the queue of this name: none moves twice.
    pub source: String,
}

impl Store {
    /// What is in a lane, and how old that is; `None` if nothing is or was in it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::Database`](crate::Error::Database),
    /// [`Error::Inconsistent`](crate::Error::Inconsistent).
    pub async fn lane(&self, lane: Lane) -> Result<Option<LaneTotals>> {
        let row = sqlx::query(
            "SELECT *, (SELECT MIN(due_ms) FROM invocations
                        WHERE lane = lanes.lane AND state = 0) AS first_due_ms,
                    (SELECT created_ms FROM invocations
                     WHERE lane = lanes.lane AND state = 0 ORDER BY seq LIMIT 1) AS oldest_ms
             FROM invocation_lanes lanes WHERE lane = $1",
        );
        let row = row.bind(lane.to_text()).fetch_optional(self.queue_db().readers()).await?;
        row.as_ref().map(read_totals).transpose()
    }

    /// What is in the lanes of queues, and how old that is.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::Database`](crate::Error::Database),
    /// [`Error::Inconsistent`](crate::Error::Inconsistent).
    pub async fn queue_lanes(&self) -> Result<Vec<LaneTotals>> {
        let rows = sqlx::query(
            "SELECT *, (SELECT MIN(due_ms) FROM invocations
                        WHERE lane = lanes.lane AND state = 0) AS first_due_ms,
                    (SELECT created_ms FROM invocations
                     WHERE lane = lanes.lane AND state = 0 ORDER BY seq LIMIT 1) AS oldest_ms
             FROM invocation_lanes lanes WHERE lane GLOB 'queue/*'",
        );
        rows.fetch_all(self.queue_db().readers()).await?.iter().map(read_totals).collect()
    }

    /// Messages of a queue, without taking them.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::Database`](crate::Error::Database).
    pub async fn messages(&self, queue: i64, page: MessagePage) -> Result<Vec<WaitingMessage>> {
        let rows = sqlx::query(
            "SELECT seq, id, source, attempt, created_ms, due_ms, expires_ms, finished_ms, last_error,
                    fields, substr(body, 1, $1) AS body, length(body) AS body_bytes
             FROM invocations
             WHERE lane = $2 AND state = $3 AND seq > $4
             ORDER BY seq LIMIT $5",
        )
        .bind(page.body_bytes)
        .bind(Lane::Queue(queue).to_text())
        .bind(page.state.number())
        .bind(page.after)
        .bind(page.limit)
        .fetch_all(self.queue_db().readers())
        .await?;
        let read = rows.iter().map(|row| {
            Ok(WaitingMessage {
                seq: row.try_get("seq")?,
                id: row.try_get("id")?,
                source: row.try_get("source")?,
                attempt: row.try_get("attempt")?,
                created_ms: row.try_get("created_ms")?,
                due_ms: row.try_get("due_ms")?,
                expires_ms: row.try_get("expires_ms")?,
                finished_ms: row.try_get("finished_ms")?,
                last_error: row.try_get("last_error")?,
                fields: StoredFields::from_bytes(row.try_get("fields")?),
                body: row.try_get("body")?,
                body_bytes: row.try_get::<i64, _>("body_bytes")?.cast_unsigned(),
            })
        });
        read.collect()
    }

    /// Gives up messages that wait and have expired: they are dead, or, with `moved`, wait in another
    /// queue. Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database). What was given up before the error stays so.
    pub async fn expire_messages(
        &self,
        queue: i64,
        moved: Option<MovedMessages>,
        why: &str,
        now_ms: i64,
    ) -> Result<u64> {
        let lane = Lane::Queue(queue).to_text();
        // A look first: a writer would have to wait for its turn, mostly for nothing.
        let any: Option<i64> = sqlx::query_scalar(
            "SELECT seq FROM invocations WHERE lane = $1 AND state = 0 AND expires_ms <= $2 LIMIT 1",
        )
        .bind(&lane)
        .bind(now_ms)
        .fetch_optional(self.queue_db().readers())
        .await?;
        if any.is_none() {
            return Ok(0);
        }
        self.in_batches(|statement| {
            statement.push("UPDATE invocations SET last_error = ").push_bind(why.to_owned());
            match &moved {
                None => {
                    statement.push(", state = 3, finished_ms = ").push_bind(now_ms);
                }
                Some(MovedMessages { queue, expires_ms, .. }) => {
                    statement.push(", lane = ").push_bind(Lane::Queue(*queue).to_text());
                    statement.push(", created_ms = ").push_bind(now_ms);
                    statement.push(", due_ms = ").push_bind(now_ms);
                    statement.push(", expires_ms = ").push_bind(*expires_ms);
                    statement.push(", attempt = 0, dedup = NULL, fingerprint = NULL");
                }
            }
            statement.push(" WHERE seq IN (SELECT seq FROM invocations WHERE lane = ");
            statement.push_bind(lane.clone());
            statement.push(" AND state = 0 AND expires_ms <= ").push_bind(now_ms);
            if let Some(moved) = &moved {
                statement.push(" AND source = ").push_bind(moved.source.clone());
            }
            statement.push(" LIMIT ").push_bind(BATCH).push(")");
        })
        .await
    }

    /// Removes dead messages of a queue that ended before a time. Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database). What was removed before the error stays removed.
    pub async fn trim_dead_messages(&self, queue: i64, before_ms: i64) -> Result<u64> {
        let lane = Lane::Queue(queue).to_text();
        let any: Option<i64> = sqlx::query_scalar(
            "SELECT seq FROM invocations WHERE lane = $1 AND state = 3 AND finished_ms < $2 LIMIT 1",
        )
        .bind(&lane)
        .bind(before_ms)
        .fetch_optional(self.queue_db().readers())
        .await?;
        if any.is_none() {
            return Ok(0);
        }
        self.in_batches(|statement| {
            statement.push(
                "DELETE FROM invocations WHERE seq IN (SELECT seq FROM invocations WHERE lane = ",
            );
            statement.push_bind(lane.clone());
            statement.push(" AND state = 3 AND finished_ms < ").push_bind(before_ms);
            statement.push(" LIMIT ").push_bind(BATCH).push(")");
        })
        .await
    }

    /// Removes all that is in a lane, what runs included: the queue or the flow was deleted.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database). What was removed before the error stays removed.
    pub async fn forget_lane(&self, lane: Lane) -> Result<u64> {
        self.in_batches(|statement| {
            statement.push(
                "DELETE FROM invocations WHERE seq IN (SELECT seq FROM invocations WHERE lane = ",
            );
            statement.push_bind(lane.to_text());
            statement.push(" LIMIT ").push_bind(BATCH).push(")");
        })
        .await
    }
}
