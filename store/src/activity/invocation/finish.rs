//! What becomes of an attempt.

use crate::{
    Result, Store,
    activity::invocation::{
        CallState, NewInvocation, ROW_BYTES, StoredAnswer, enqueue, lane::Lane,
    },
    sql::WriteTransaction,
};

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The id of the call.
    pub id: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// What is to become of the call.
    pub next: NextState,
    /// Why it has failed.
    pub error: Option<String>,
    /// The answer, if it had one.
    pub answer: Option<StoredAnswer>,
    /// Calls that follow from it, in the same transaction. No quota refuses them.
    pub follow_ups: Vec<NewInvocation>,
    /// The time, in Unix milliseconds.
    pub now_ms: i64,
}

/// What is to become of a call after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextState {
    /// It has succeeded.
    Succeeded,
    /// It has failed for good.
    Dead,
    /// It is tried again at this time.
    Retry {
        /// In Unix milliseconds.
        due_ms: i64,
    },
    /// It has not begun, or has not ended: it is tried again at this time, and the attempt is not one.
    HandedBack {
        /// In Unix milliseconds.
        due_ms: i64,
    },
    /// It waits in another lane from here on, under its id, with all its attempts. What its client has
    /// named it is forgotten.
    Moved {
        /// The other lane.
        lane: Lane,
        /// When it is given up there, in Unix milliseconds.
        expires_ms: i64,
    },
}

impl Store {
    /// Stores what became of attempts, with the calls that follow from them, all or nothing. Returns
    /// for how many it was stored: an attempt whose lease another one took over changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database).
    pub async fn finish(&self, finished: Vec<Finished>) -> Result<u64> {
        self.queue_writes()
            .submit(move |tx| Box::pin(async move { apply(tx, &finished).await }))
            .await
    }
}

async fn apply(tx: &mut WriteTransaction, finished: &[Finished]) -> Result<u64> {
    let mut stored = 0;
    for finished in finished {
        if store_one(tx, finished).await? == 0 {
            continue;
        }
        stored += 1;
        for call in &finished.follow_ups {
            enqueue::insert(tx, call).await?;
        }
    }
    Ok(stored)
}

async fn store_one(tx: &mut WriteTransaction, finished: &Finished) -> Result<u64> {
    let (state, due_ms, back) = match finished.next {
        NextState::Moved { lane, expires_ms } => {
            return move_one(tx, finished, lane, expires_ms).await;
        }
        NextState::Succeeded => (CallState::Succeeded, None, 0),
        NextState::Dead => (CallState::Dead, None, 0),
        NextState::Retry { due_ms } => (CallState::Due, Some(due_ms), 0),
        NextState::HandedBack { due_ms } => (CallState::Due, Some(due_ms), 1),
    };
    let ended = due_ms.is_none().then_some(finished.now_ms);
    let answer = finished.answer.as_ref();
    let fields = answer.map(|answer| answer.fields.to_bytes());
    let body = answer.map(|answer| answer.body.as_slice());
    let answer_bytes = fields.as_ref().map_or(0, Vec::len) + body.map_or(0, <[u8]>::len);
    let answer_bytes = i64::try_from(answer_bytes).unwrap_or(i64::MAX);
    // Only what failed can run again, and needs what was sent.
    let succeeded = state == CallState::Succeeded;
    let done = sqlx::query(
        "UPDATE invocations SET
             state = $1, due_ms = COALESCE($2, due_ms), attempt = attempt - $3, lease_ms = NULL,
             finished_ms = $4, last_error = $5,
             answer_status = COALESCE($6, answer_status),
             answer_fields = COALESCE($7, answer_fields),
             answer_body = COALESCE($8, answer_body),
             answer_cut = COALESCE($9, answer_cut),
             fields = CASE WHEN $10 THEN x'' ELSE fields END,
             body = CASE WHEN $10 THEN x'' ELSE body END,
             bytes = $11 + $12 + length(target) + length(context)
                   + CASE WHEN $10 THEN 0 ELSE length(fields) + length(body) END
                   + CASE WHEN $10 OR cause <> 'flow' THEN 0 ELSE
                         (SELECT COALESCE(SUM(length(answer) + 256), 0) FROM flow_steps
                          WHERE run = invocations.id) END
         WHERE id = $13 AND state = 1 AND attempt = $14",
    )
    .bind(state.number())
    .bind(due_ms)
    .bind(back)
    .bind(ended)
    .bind(&finished.error)
    .bind(answer.map(|answer| i64::from(answer.status)))
    .bind(fields)
    .bind(body)
    .bind(answer.map(|answer| answer.cut))
    .bind(succeeded)
    .bind(answer_bytes)
    .bind(i64::try_from(ROW_BYTES).unwrap_or(i64::MAX))
    .bind(&finished.id)
    .bind(finished.attempt)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

async fn move_one(
    tx: &mut WriteTransaction,
    finished: &Finished,
    lane: Lane,
    expires_ms: i64,
) -> Result<u64> {
    let moved = sqlx::query(
        "UPDATE invocations SET
             lane = $1, state = 0, attempt = 0, created_ms = $2, due_ms = $2, expires_ms = $3,
             lease_ms = NULL, last_error = $4, dedup = NULL, fingerprint = NULL
         WHERE id = $5 AND state = 1 AND attempt = $6",
    )
    .bind(lane.to_text())
    .bind(finished.now_ms)
    .bind(expires_ms)
    .bind(&finished.error)
    .bind(&finished.id)
    .bind(finished.attempt)
    .execute(&mut **tx)
    .await?;
    Ok(moved.rows_affected())
}
