//! Enqueues the runs of schedules when they are due.

use std::time::Duration;

use futures_util::future::join_all;
use gateway_api::OverlapPolicy;
use store::{DueRun, MissedRuns, RunOutcome, ScheduleTurn};
use tokio::{sync::watch, time};

use crate::{
    telemetry::clock::now_ms,
    triggers::schedules::{Schedules, of_record, plan::TurnPlan},
};

/// Schedules that have their turn at once. They share a transaction.
const TURNS: usize = 128;
/// The longest time for which the ticker does not look at the clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_secs(1);
/// When a run is tried again that the queue has not taken.
const RETRY_MS: i64 = 2_000;

impl Schedules {
    /// Enqueues runs while the gateway is ready, and ends when it is no longer. It may be dropped at any
    /// point: what it has not enqueued is still due.
    pub(crate) async fn tick(self, mut readiness: watch::Receiver<bool>) {
        if readiness.wait_for(|ready| *ready).await.is_ok() {
            tokio::select! {
                () = self.turns() => {}
                _ = readiness.wait_for(|ready| !*ready) => {}
            }
        }
    }

    async fn turns(&self) {
        loop {
            let now = now_ms();
            let (turns, next) = self.turn(now).await;
            if turns == TURNS {
                // More may be due.
                continue;
            }
            let wait = next.map(|next| next.saturating_sub(now_ms()).max(0).cast_unsigned());
            let changed = self.state.changed.notified();
            match wait {
                None => changed.await,
                Some(wait) => {
                    let look = time::sleep(Duration::from_millis(wait).min(LOOK));
                    tokio::select! { () = changed => {} () = look => {} }
                }
            }
        }
    }

    /// Enqueues what is due. Returns how many schedules had a turn, and when the next is due.
    async fn turn(&self, now: i64) -> (usize, Option<i64>) {
        let mut board = self.state.board.lock().await;
        let due = board.take_due(now, TURNS);
        let turns = due.len();
        let done = join_all(due.into_iter().map(|(id, plan)| async move {
            let until = plan.until_ms;
            (id, until, self.enqueue(id, plan, now).await)
        }));
        for (id, until, enqueued) in done.await {
            match enqueued {
                Ok(()) => board.put_back(id, Some(until), None),
                Err(error) => {
                    // Seconds later, and each time with all that was missed: once is enough to know.
                    tracing::debug!(%error, schedule = id, "the runs of a schedule wait");
                    self.state.metrics.add("deferred", 1);
                    board.put_back(id, None, Some(now.saturating_add(RETRY_MS)));
                }
            }
        }
        (turns, board.next_ms())
    }

    async fn enqueue(&self, id: i64, plan: TurnPlan, now: i64) -> store::Result<()> {
        let state = &self.state;
        // Changes wait for the board: it is there, and as the board has it.
        let Some(record) = state.store.schedule_by_id(id).await? else { return Ok(()) };
        let Ok(spec) = of_record(&record) else { return Ok(()) };
        let run = |due_ms: i64| {
            let call = state.calls.due(&record, &spec, due_ms, now);
            if let Err(why) = &call {
                tracing::debug!(schedule = record.name, why, "a run was refused");
            }
            DueRun { due_ms, call: call.ok() }
        };
        let TurnPlan { run: runs, missed: count, last_missed_ms, until_ms } = plan;
        let turn = ScheduleTurn {
            schedule: id,
            runs: runs.into_iter().map(run).collect(),
            skip_overlap: spec.overlap == OverlapPolicy::Skip,
            missed: last_missed_ms.map(|last_ms| MissedRuns { last_ms, count }),
            until_ms,
        };
        let limits = state.calls.limits(&record.tenant, &spec);
        let outcomes = state.store.take_turn(turn, limits).await?;
        state.metrics.add("missed", count);
        let mut queued = 0;
        for (due_ms, outcome) in outcomes {
            state.metrics.outcome(outcome);
            if outcome == RunOutcome::Queued {
                state.metrics.lag.observe((now_ms() - due_ms).max(0) as f64 / 1_000.0);
                queued += 1;
            }
        }
        if queued > 0 {
            state.calls.added(queued);
        }
        Ok(())
    }
}
