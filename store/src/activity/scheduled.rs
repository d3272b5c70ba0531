//! What schedules have done: until when, and their last runs.
//!
//! This is in the queue's database. The call that a schedule makes and the schedule's progress are
//! written in one transaction, so that a crash can neither lose a due time nor run it twice.

use std::collections::HashMap;

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    CallState, Error, Result, Store,
    activity::invocation::{
        NewInvocation,
        enqueue::{self, EnqueueLimits},
    },
    sql::WriteTransaction,
};

/// Runs of one schedule that are remembered. Arbitrary: a page of them.
const RUNS: i64 = 20;

/// What is to be done about a schedule.
#[derive(Clone, Debug)]
pub struct ScheduleTurn {
    /// Its id.
    pub schedule: i64,
    /// Its due times that run, in order.
    pub runs: Vec<DueRun>,
    /// Whether a due time does not run while an earlier run has not ended.
    pub skip_overlap: bool,
    /// The due times before those that nothing could run on time.
    pub missed: Option<MissedRuns>,
    /// The last of all due times, up to which all is done then, in Unix milliseconds.
    pub until_ms: i64,
}

/// A due time that runs.
#[derive(Clone, Debug)]
pub struct DueRun {
    /// In Unix milliseconds.
    pub due_ms: i64,
    /// The call; `None` if it cannot be made.
    pub call: Option<NewInvocation>,
}

/// Due times that do not run.
#[derive(Clone, Copy, Debug)]
pub struct MissedRuns {
    /// The last of them, in Unix milliseconds.
    pub last_ms: i64,
    /// How many they are.
    pub count: u64,
}

/// What became of a due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunOutcome {
    /// Its call was enqueued.
    Queued,
    /// An earlier run had not ended.
    Skipped,
    /// Nothing could run it on time.
    Missed,
    /// Its call could not be made.
    Refused,
}

impl RunOutcome {
    const ALL: [Self; 4] = [Self::Queued, Self::Skipped, Self::Missed, Self::Refused];

    /// The number in the database.
    fn number(self) -> i64 {
        match self {
            Self::Queued => 0,
            Self::Skipped => 1,
            Self::Missed => 2,
            Self::Refused => 3,
        }
    }
}

/// A run of a schedule that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRun {
    /// When it was due, in Unix milliseconds.
    pub due_ms: i64,
    /// Whether it was asked for.
    pub manual: bool,
    /// What became of it.
    pub outcome: RunOutcome,
    /// How many due times before it had the same outcome.
    pub others: u64,
    /// The id of its call.
    pub invocation: Option<String>,
    /// How far the call is; `None` if it is kept no longer, or was never made.
    pub state: Option<CallState>,
}

impl Store {
    /// Enqueues the calls of a schedule and moves its progress, both or neither. Due times up to the
    /// progress are done already, and left out. Returns what became of the others, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`] if the queue is full, and then nothing has changed; [`Error::Busy`],
    /// [`Error::NoSpace`], [`Error::Database`].
    pub async fn take_turn(
        &self,
        turn: ScheduleTurn,
        limits: EnqueueLimits,
    ) -> Result<Vec<(i64, RunOutcome)>> {
        self.queue_writes()
            .submit(move |tx| Box::pin(async move { apply_turn(tx, turn, limits).await }))
            .await
    }

    /// Enqueues a call of a schedule that was asked for. Its progress stays.
    ///
    /// # Errors
    ///
    /// Those of [`Self::take_turn`].
    pub async fn run_schedule(
        &self,
        schedule: i64,
        due_ms: i64,
        call: NewInvocation,
        limits: EnqueueLimits,
    ) -> Result<()> {
        self.queue_writes()
            .submit(move |tx| {
                Box::pin(async move {
                    let id = call.id.clone();
                    enqueue::apply(tx, &[call], limits).await?;
                    let run = ScheduleRun {
                        due_ms,
                        manual: true,
                        outcome: RunOutcome::Queued,
                        others: 0,
                        invocation: Some(id),
                        state: None,
                    };
                    remember(tx, schedule, &run).await
                })
            })
            .await
    }

    /// Until when each schedule is done, in Unix milliseconds.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`].
    pub async fn schedules_done_until(&self) -> Result<HashMap<i64, i64>> {
        let all = sqlx::query("SELECT schedule, due_ms FROM schedule_progress");
        let all = all.fetch_all(self.queue_db().readers()).await?;
        all.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// The last runs of a schedule, the newest first.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn schedule_runs(&self, schedule: i64) -> Result<Vec<ScheduleRun>> {
        let runs = sqlx::query(
            "SELECT r.*, i.state FROM schedule_runs r LEFT JOIN invocations i ON i.id = r.invocation
             WHERE r.schedule = $1 ORDER BY r.seq DESC",
        );
        let runs = runs.bind(schedule).fetch_all(self.queue_db().readers()).await?;
        runs.iter().map(read_run).collect()
    }

    /// Forgets what a schedule that was deleted has done.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn forget_schedule(&self, schedule: i64) -> Result<()> {
        self.queue_writes()
            .submit(move |tx| {
                Box::pin(async move {
                    for forget in [
                        "DELETE FROM schedule_progress WHERE schedule = $1",
                        "DELETE FROM schedule_runs WHERE schedule = $1",
                    ] {
                        sqlx::query(forget).bind(schedule).execute(&mut **tx).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

async fn apply_turn(
    tx: &mut WriteTransaction,
    turn: ScheduleTurn,
    limits: EnqueueLimits,
) -> Result<Vec<(i64, RunOutcome)>> {
    let ScheduleTurn { schedule, runs, skip_overlap, missed, until_ms } = turn;
    let done: Option<i64> =
        sqlx::query_scalar("SELECT due_ms FROM schedule_progress WHERE schedule = $1")
            .bind(schedule)
            .fetch_optional(&mut **tx)
            .await?;
    let done = done.unwrap_or(i64::MIN);
    let mut overlaps = skip_overlap && has_unfinished(tx, schedule).await?;
    let mut outcomes = Vec::with_capacity(runs.len());
    let mut calls = Vec::new();
    for DueRun { due_ms, call } in runs.into_iter().filter(|run| run.due_ms > done) {
        let outcome = match &call {
            None => RunOutcome::Refused,
            Some(_) if overlaps => RunOutcome::Skipped,
            Some(_) => RunOutcome::Queued,
        };
        let call = call.filter(|_| outcome == RunOutcome::Queued);
        overlaps |= skip_overlap && call.is_some();
        outcomes.push((due_ms, outcome, call.as_ref().map(|call| call.id.clone())));
        calls.extend(call);
    }
    // Before all else: a refusal must not have changed anything.
    enqueue::apply(tx, &calls, limits).await?;
    if let Some(MissedRuns { last_ms, count }) = missed.filter(|missed| missed.last_ms > done) {
        let run = not_run(last_ms, RunOutcome::Missed, count - 1);
        remember(tx, schedule, &run).await?;
    }
    for (due_ms, outcome, invocation) in &outcomes {
        let run = ScheduleRun { invocation: invocation.clone(), ..not_run(*due_ms, *outcome, 0) };
        remember(tx, schedule, &run).await?;
    }
    sqlx::query(
        "INSERT INTO schedule_progress (schedule, due_ms) VALUES ($1, $2)
         ON CONFLICT (schedule) DO UPDATE SET due_ms = MAX(due_ms, $2)",
    )
    .bind(schedule)
    .bind(until_ms)
    .execute(&mut **tx)
    .await?;
    Ok(outcomes.into_iter().map(|(due_ms, outcome, _)| (due_ms, outcome)).collect())
}

fn not_run(due_ms: i64, outcome: RunOutcome, others: u64) -> ScheduleRun {
    ScheduleRun { due_ms, manual: false, outcome, others, invocation: None, state: None }
}

/// Whether a run of a schedule is queued or running.
async fn has_unfinished(tx: &mut WriteTransaction, schedule: i64) -> Result<bool> {
    let found = sqlx::query(
        "SELECT 1 FROM schedule_runs r JOIN invocations i ON i.id = r.invocation
         WHERE r.schedule = $1 AND i.state < 2 LIMIT 1",
    );
    Ok(found.bind(schedule).fetch_optional(&mut **tx).await?.is_some())
}

/// Adds a run to the last ones. A due time without a call joins the one before it, if that has the same
/// outcome.
async fn remember(tx: &mut WriteTransaction, schedule: i64, run: &ScheduleRun) -> Result<()> {
    let others = run.others.cast_signed();
    if run.outcome != RunOutcome::Queued {
        let joined = sqlx::query(
            "UPDATE schedule_runs SET due_ms = $2, others = others + $3 + 1
             WHERE seq = (SELECT MAX(seq) FROM schedule_runs WHERE schedule = $1) AND outcome = $4",
        )
        .bind(schedule)
        .bind(run.due_ms)
        .bind(others)
        .bind(run.outcome.number())
        .execute(&mut **tx)
        .await?;
        if joined.rows_affected() > 0 {
            return Ok(());
        }
    }
    sqlx::query(
        "INSERT INTO schedule_runs (schedule, due_ms, manual, outcome, others, invocation)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(schedule)
    .bind(run.due_ms)
    .bind(run.manual)
    .bind(run.outcome.number())
    .bind(others)
    .bind(&run.invocation)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "DELETE FROM schedule_runs WHERE schedule = $1 AND seq <=
             (SELECT seq FROM schedule_runs WHERE schedule = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2)",
    )
    .bind(schedule)
    .bind(RUNS)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn read_run(row: &SqliteRow) -> Result<ScheduleRun> {
    let number: i64 = row.try_get("outcome")?;
    let outcome = RunOutcome::ALL.into_iter().find(|outcome| outcome.number() == number);
    let state: Option<i64> = row.try_get("state")?;
    Ok(ScheduleRun {
        due_ms: row.try_get("due_ms")?,
        manual: row.try_get("manual")?,
        outcome: outcome
            .ok_or_else(|| Error::Inconsistent { reason: format!("outcome {number} of a run") })?,
        others: row.try_get::<i64, _>("others")?.cast_unsigned(),
        invocation: row.try_get("invocation")?,
        state: state.map(CallState::from_number).transpose()?,
    })
}
