//! Takes calls out of the queue to run them.

use crate::{
    Result, Store,
    activity::invocation::{
        CallState, Invocation,
        lane::{Lane, LaneTotals, read_totals},
        read_invocation,
    },
    sql::WriteTransaction,
};

/// Which calls to claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallClaim {
    /// From which lanes, and how many. A lane may come several times.
    pub lanes: Vec<LaneClaim>,
    /// The time, in Unix milliseconds.
    pub now_ms: i64,
    /// How long they are the caller's.
    pub lease_until_ms: i64,
}

/// How many calls to claim from a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneClaim {
    /// The lane.
    pub lane: Lane,
    /// At most so many.
    pub calls: u32,
    /// At most so many bytes, but for the last of them, which may exceed that.
    pub bytes: u64,
}

async fn apply(tx: &mut WriteTransaction, claim: &CallClaim) -> Result<Vec<Vec<Invocation>>> {
    let mut claimed = Vec::with_capacity(claim.lanes.len());
    for LaneClaim { lane, calls, bytes } in &claim.lanes {
        let rows = sqlx::query(
            "UPDATE invocations SET state = 1, attempt = attempt + 1, lease_ms = $1
             WHERE seq IN (
                 SELECT seq FROM (
                     SELECT seq, SUM(bytes) OVER (ORDER BY due_ms, seq) - bytes AS ahead
                     FROM (SELECT seq, due_ms, bytes FROM invocations
                           WHERE lane = $2 AND state = 0 AND due_ms <= $3
                           ORDER BY due_ms, seq LIMIT $4))
                 WHERE ahead < $5)
             RETURNING *",
        )
        .bind(claim.lease_until_ms)
        .bind(lane.to_text())
        .bind(claim.now_ms)
        .bind(calls)
        .bind(i64::try_from(*bytes).unwrap_or(i64::MAX))
        .fetch_all(&mut **tx)
        .await?;
        let mut calls = rows.iter().map(read_invocation).collect::<Result<Vec<_>>>()?;
        calls.sort_by_key(|call| (call.due_ms, call.seq));
        claimed.push(calls);
    }
    Ok(claimed)
}

impl Store {
    /// Claims calls that are due, the longest waiting first, as many lists as the claim has. Each has begun
    /// one more attempt, and is the caller's until its lease is over.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database),
    /// [`Error::Inconsistent`](crate::Error::Inconsistent).
    pub async fn claim(&self, claim: CallClaim) -> Result<Vec<Vec<Invocation>>> {
        self.queue_writes().submit(move |tx| Box::pin(async move { apply(tx, &claim).await })).await
    }

    /// The lanes in which something is or was, with what is in them.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::Database`](crate::Error::Database),
    /// [`Error::Inconsistent`](crate::Error::Inconsistent).
    pub async fn lanes(&self) -> Result<Vec<LaneTotals>> {
        let rows = sqlx::query(
            "SELECT *, (SELECT MIN(due_ms) FROM invocations
                        WHERE lane = lanes.lane AND state = 0) AS first_due_ms,
                    NULL AS oldest_ms
             FROM invocation_lanes lanes",
        );
        rows.fetch_all(self.queue_db().readers()).await?.iter().map(read_totals).collect()
    }

    /// The lanes in which something waits, with what is in them, the longest waiting first.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::Database`](crate::Error::Database),
    /// [`Error::Inconsistent`](crate::Error::Inconsistent).
    pub async fn due_lanes(&self) -> Result<Vec<LaneTotals>> {
        let rows = sqlx::query(
            "SELECT *, (SELECT MIN(due_ms) FROM invocations
                        WHERE lane = lanes.lane AND state = 0) AS first_due_ms,
                    NULL AS oldest_ms
             FROM invocation_lanes lanes WHERE due > 0 ORDER BY first_due_ms",
        );
        rows.fetch_all(self.queue_db().readers()).await?.iter().map(read_totals).collect()
    }

    /// Prolongs the leases of calls that still run. Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database).
    pub async fn renew_leases(&self, ids: &[String], lease_until_ms: i64) -> Result<u64> {
        let mut tx = self.queue_db().begin().await?;
        let mut renewed = 0;
        for id in ids {
            renewed +=
                sqlx::query("UPDATE invocations SET lease_ms = $1 WHERE id = $2 AND state = 1")
                    .bind(lease_until_ms)
                    .bind(id)
                    .execute(&mut *tx)
                    .await?
                    .rows_affected();
        }
        tx.commit().await?;
        Ok(renewed)
    }

    /// Makes calls due again whose lease was over before `before_ms`. Their attempt counts: it may have
    /// done everything but tell.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database).
    pub async fn return_expired_leases(&self, before_ms: i64) -> Result<u64> {
        let expired = sqlx::query(
            "UPDATE invocations SET state = $1, lease_ms = NULL,
                 last_error = 'the gateway ended during the attempt'
             WHERE state = 1 AND lease_ms < $2",
        );
        self.queue_db().change(expired.bind(CallState::Due.number()).bind(before_ms)).await
    }
}
