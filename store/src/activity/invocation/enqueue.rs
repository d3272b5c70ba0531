//! Adds calls to the queue.

use sqlx::Row as _;

use crate::{
    Error, Quota, Result, Store,
    activity::invocation::{CallState, Dedup, NewInvocation, lane::Lane},
    sql::WriteTransaction,
};

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnqueueLimits {
    /// Calls that wait or run in the lane.
    pub lane_calls: u64,
    /// Bytes of calls that wait or run, in all lanes. The last eighth is for lanes that have less than
    /// an equal share.
    pub bytes: u64,
}

/// What became of a call that was to be enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// The id of the call, which is that of an earlier one if its client has sent it before.
    pub id: String,
    /// Whether it is new, or what was there.
    pub outcome: EnqueueOutcome,
}

/// Whether a call is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnqueueOutcome {
    /// It was added.
    New,
    /// It is there already.
    Known,
    /// Another call of its client's has this name. Nothing was added.
    Mismatch,
    /// It is new, and was not added because of a mismatch beside it.
    NotAdded,
}

impl Store {
    /// Enqueues calls, all or none, unless they are enqueued already. No two of them may have the same
    /// name. When this returns, they survive a power cut. One outcome for each, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`] if a limit does not allow them; [`Error::Busy`], [`Error::NoSpace`],
    /// [`Error::Database`].
    pub async fn enqueue(
        &self,
        new: Vec<NewInvocation>,
        limits: EnqueueLimits,
    ) -> Result<Vec<Enqueued>> {
        self.queue_writes()
            .submit(move |tx| Box::pin(async move { apply(tx, &new, limits).await }))
            .await
    }
}

/// Adds calls that are not there yet. A refusal by a quota has changed nothing.
pub(crate) async fn apply(
    tx: &mut WriteTransaction,
    new: &[NewInvocation],
    limits: EnqueueLimits,
) -> Result<Vec<Enqueued>> {
    let mut outcomes = Vec::with_capacity(new.len());
    for call in new {
        outcomes.push(known(tx, call).await?);
    }
    if outcomes.iter().flatten().any(|known| known.outcome == EnqueueOutcome::Mismatch) {
        let not_added = |call: &NewInvocation| Enqueued {
            id: call.id.clone(),
            outcome: EnqueueOutcome::NotAdded,
        };
        let all = new.iter().zip(outcomes);
        return Ok(all.map(|(call, known)| known.unwrap_or_else(|| not_added(call))).collect());
    }
    let added = || new.iter().zip(&outcomes).filter(|(_, known)| known.is_none());
    admit(tx, added().map(|(call, _)| call), limits).await?;
    let mut done = Vec::with_capacity(new.len());
    for (call, known) in new.iter().zip(outcomes) {
        done.push(match known {
            Some(known) => known,
            None => insert(tx, call).await?,
        });
    }
    Ok(done)
}

/// The call that is there already, by its id or by the name that its client has given it.
async fn known(tx: &mut WriteTransaction, new: &NewInvocation) -> Result<Option<Enqueued>> {
    if let Some(Dedup { key, fingerprint }) = new.dedup {
        let named =
            sqlx::query("SELECT id, fingerprint FROM invocations WHERE lane = $1 AND dedup = $2")
                .bind(new.lane.to_text())
                .bind(key.as_slice())
                .fetch_optional(&mut **tx)
                .await?;
        if let Some(row) = named {
            let same = row.try_get::<&[u8], _>("fingerprint")? == fingerprint.as_slice();
            let outcome = if same { EnqueueOutcome::Known } else { EnqueueOutcome::Mismatch };
            return Ok(Some(Enqueued { id: row.try_get("id")?, outcome }));
        }
    }
    let there = sqlx::query("SELECT 1 FROM invocations WHERE id = $1").bind(&new.id);
    let there = there.fetch_optional(&mut **tx).await?;
    let known = Enqueued { id: new.id.clone(), outcome: EnqueueOutcome::Known };
    Ok(there.map(|_| known))
}

/// Fails if the calls would exceed a limit.
async fn admit(
    tx: &mut WriteTransaction,
    new: impl Iterator<Item = &NewInvocation>,
    limits: EnqueueLimits,
) -> Result<()> {
    let mut more: Vec<(Lane, u64, u64)> = Vec::new();
    for call in new {
        let bytes = call.bytes(&call.request.fields.to_bytes()).cast_unsigned();
        match more.iter_mut().find(|(lane, ..)| *lane == call.lane) {
            Some((_, calls, sum)) => (*calls, *sum) = (*calls + 1, *sum + bytes),
            None => more.push((call.lane, 1, bytes)),
        }
    }
    for (lane, calls, bytes) in more {
        let row = sqlx::query(
            "SELECT COALESCE(SUM(waiting_bytes), 0) AS bytes,
                    COALESCE(SUM((lane = $1) * waiting_bytes), 0) AS own,
                    COALESCE(SUM((lane = $1) * (due + running)), 0) AS calls,
                    COALESCE(SUM(due + running > 0 AND lane <> $1), 0) AS others
             FROM invocation_lanes",
        )
        .bind(lane.to_text())
        .fetch_one(&mut **tx)
        .await?;
        let count = |column| Ok::<_, Error>(row.try_get::<i64, _>(column)?.cast_unsigned());
        if count("calls")? + calls > limits.lane_calls {
            let quota = match lane {
                Lane::Function(_) | Lane::Delivery(_) => Quota::QueuedCalls,
                Lane::Queue(_) => Quota::Messages,
                Lane::Flow(_) => Quota::FlowRuns,
            };
            return Err(Error::Quota { quota, max: limits.lane_calls });
        }
        let (all, own) = (count("bytes")? + bytes, count("own")? + bytes);
        let share = limits.bytes / (count("others")? + 2);
        let admitted =
            all <= limits.bytes - limits.bytes / 8 || (all <= limits.bytes && own <= share);
        if !admitted {
            return Err(Error::Quota { quota: Quota::QueuedBytes, max: limits.bytes });
        }
    }
    Ok(())
}

/// Adds a call that is not there. Its limits were looked at.
pub(crate) async fn insert(tx: &mut WriteTransaction, new: &NewInvocation) -> Result<Enqueued> {
    let fields = new.request.fields.to_bytes();
    let added = sqlx::query(
        "INSERT INTO invocations
             (id, tenant, lane, function, function_id, channel, revision, cause, source, context,
              method, target, fields, body, state, attempt, created_ms, due_ms, expires_ms, dedup,
              fingerprint, bytes)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 0, $16, $17,
                 $18, $19, $20, $21)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(&new.id)
    .bind(new.tenant.as_str())
    .bind(new.lane.to_text())
    .bind(&new.function)
    .bind(new.function_id)
    .bind(&new.channel)
    .bind(new.revision)
    .bind(new.cause.as_str())
    .bind(&new.source)
    .bind(&new.context)
    .bind(&new.request.method)
    .bind(&new.request.target)
    .bind(&fields)
    .bind(&new.request.body)
    .bind(CallState::Due.number())
    .bind(new.created_ms)
    .bind(new.due_ms)
    .bind(new.expires_ms)
    .bind(new.dedup.map(|dedup| dedup.key.to_vec()))
    .bind(new.dedup.map(|dedup| dedup.fingerprint.to_vec()))
    .bind(new.bytes(&fields))
    .execute(&mut **tx)
    .await?
    .rows_affected();
    let outcome = if added > 0 { EnqueueOutcome::New } else { EnqueueOutcome::Known };
    Ok(Enqueued { id: new.id.clone(), outcome })
}
