//! Flows, and the steps of their runs that have ended. The
//! runs themselves are calls in a lane of the flow's.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    Error, Result, Store,
    activity::document::{DocumentRecord, FLOWS, PutDocument},
    sql::WriteTransaction,
};

/// What a stored step takes in the file besides its texts and its answer, roughly.
const STEP_BYTES: usize = 256;

/// How a step of a flow has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepOutcome {
    /// It has its answer.
    Done,
    /// It has failed, and the flow goes on.
    Continued,
    /// It has failed, and the flow with it. It is tried again with the run.
    Failed,
}

impl StepOutcome {
    const ALL: [Self; 3] = [Self::Done, Self::Continued, Self::Failed];

    /// The number in the database.
    fn number(self) -> i64 {
        match self {
            Self::Done => 0,
            Self::Continued => 1,
            Self::Failed => 2,
        }
    }
}

/// What a step adds to the state of its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepAnswer {
    /// What the bytes are, as the gateway numbers it.
    pub kind: u8,
    /// What the function says that they are.
    pub content_type: Option<String>,
    /// The bytes.
    pub body: Vec<u8>,
}

/// A step that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Its place in the flow.
    pub path: String,
    /// The id that its function has seen.
    pub id: String,
    /// The function or the flow.
    pub target: String,
    /// How it has ended.
    pub outcome: StepOutcome,
    /// Which attempt of the run it was.
    pub attempt: u32,
    /// The status of its answer.
    pub status: Option<u16>,
    /// Why it has failed.
    pub error: Option<String>,
    /// When it began, in Unix milliseconds.
    pub started_ms: i64,
    /// When it ended, in Unix milliseconds.
    pub ended_ms: i64,
    /// What it adds to the state, unless the flow has ended with it.
    pub answer: Option<StepAnswer>,
}

impl StepRecord {
    fn bytes(&self) -> i64 {
        let answer = self.answer.as_ref().map_or(0, |answer| answer.body.len());
        let error = self.error.as_ref().map_or(0, String::len);
        i64::try_from(STEP_BYTES + answer + error).unwrap_or(i64::MAX)
    }
}

impl Store {
    /// All flows of all tenants, ordered by name, for the start.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn all_flows(&self) -> Result<Vec<DocumentRecord>> {
        FLOWS.all(self).await
    }

    /// Sets a flow, or replaces all of it, and returns whether it is new. When this returns, it survives a
    /// power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`] if it is new and there are `max` already; [`Error::Busy`],
    /// [`Error::NoSpace`], [`Error::Database`].
    pub async fn put_flow(&self, put: PutDocument, max: u64) -> Result<(DocumentRecord, bool)> {
        FLOWS.put(self, put, max).await
    }

    /// Deletes a flow, and returns whether it existed. Its runs are left.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn delete_flow(&self, id: i64) -> Result<bool> {
        FLOWS.delete(self, id).await
    }

    /// Stores a step of a run that has ended, in place of an earlier attempt of it. When this returns, it
    /// survives a power cut. Returns false, and stores nothing, if the attempt of the run is not the current
    /// one: its lease is over, and another one has begun.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn record_step(&self, run: &str, step: StepRecord) -> Result<bool> {
        let run = run.to_owned();
        self.queue_writes()
            .submit(move |tx| Box::pin(async move { record(tx, &run, &step).await }))
            .await
    }

    /// The steps of a run that have ended, in the order in which they did.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn flow_steps(&self, run: &str) -> Result<Vec<StepRecord>> {
        let steps = sqlx::query("SELECT * FROM flow_steps WHERE run = $1 ORDER BY seq");
        steps.bind(run).fetch_all(self.queue_db().readers()).await?.iter().map(read_step).collect()
    }
}

async fn record(tx: &mut WriteTransaction, run: &str, step: &StepRecord) -> Result<bool> {
    let current = sqlx::query(
        "UPDATE invocations SET bytes = bytes + $1 WHERE id = $2 AND state = 1 AND attempt = $3",
    )
    .bind(step.bytes())
    .bind(run)
    .bind(step.attempt)
    .execute(&mut **tx)
    .await?;
    if current.rows_affected() == 0 {
        return Ok(false);
    }
    let answer = step.answer.as_ref();
    // A new row, so that the order is that of the last attempts.
    sqlx::query(
        "INSERT OR REPLACE INTO flow_steps
             (run, path, id, target, outcome, attempt, status, error, started_ms, ended_ms, kind,
              content_type, answer)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(run)
    .bind(&step.path)
    .bind(&step.id)
    .bind(&step.target)
    .bind(step.outcome.number())
    .bind(step.attempt)
    .bind(step.status.map(i64::from))
    .bind(&step.error)
    .bind(step.started_ms)
    .bind(step.ended_ms)
    .bind(answer.map(|answer| i64::from(answer.kind)))
    .bind(answer.and_then(|answer| answer.content_type.as_deref()))
    .bind(answer.map_or(&[][..], |answer| answer.body.as_slice()))
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

fn read_step(row: &SqliteRow) -> Result<StepRecord> {
    let number: i64 = row.try_get("outcome")?;
    let outcome = StepOutcome::ALL.into_iter().find(|outcome| outcome.number() == number);
    let kind: Option<u8> = row.try_get("kind")?;
    let answer = match kind {
        None => None,
        Some(kind) => Some(StepAnswer {
            kind,
            content_type: row.try_get("content_type")?,
            body: row.try_get("answer")?,
        }),
    };
    Ok(StepRecord {
        path: row.try_get("path")?,
        id: row.try_get("id")?,
        target: row.try_get("target")?,
        outcome: outcome
            .ok_or_else(|| Error::Inconsistent { reason: format!("outcome {number} of a step") })?,
        attempt: row.try_get("attempt")?,
        status: row.try_get("status")?,
        error: row.try_get("error")?,
        started_ms: row.try_get("started_ms")?,
        ended_ms: row.try_get("ended_ms")?,
        answer,
    })
}
