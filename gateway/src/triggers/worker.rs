//! Empties the queue: runs what is due while the node has time for it.
//!
//! Calls run on the threads of the lowest priority, a few at a time, and none begins while guests of
//! clients that wait must queue for the processors. What has ended is stored together.

use std::{collections::HashMap, iter, sync::Arc, time::Duration};

use store::{
    CallClaim, Cause, Finished, Invocation, Lane, LaneClaim, LaneTotals, NextState, Store,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    telemetry::clock::now_ms,
    triggers::{
        attempt::Attempts,
        call_queue::{CallQueue, report},
        queues::consume::Delivery,
    },
};

/// How long a claimed call is ours. It is renewed long before.
const LEASE_MS: i64 = 30_000;
const RENEW: Duration = Duration::from_secs(10);
/// Bytes of the messages of one request: a message more is not added to so many.
const BATCH_BYTES: u64 = 4 << 20;
/// How long to wait while the node is busy.
const BUSY: Duration = Duration::from_millis(20);
/// How long to wait at most before another look: a failed look is repeated then, too.
const LOOK: Duration = Duration::from_secs(1);

/// Empties the queue.
pub(crate) struct Worker {
    queue: CallQueue,
    store: Store,
    attempts: Arc<Attempts>,
    /// The threads that calls run on.
    threads: Handle,
    workers: usize,
    running: JoinSet<Vec<(Cause, Finished)>>,
    begun: HashMap<Id, BegunAttempt>,
    /// What has ended, and is not stored yet.
    ended: Vec<(Cause, Finished)>,
}

/// An attempt that runs, of one call or of several messages.
struct BegunAttempt {
    lane: Lane,
    calls: Vec<BegunCall>,
}

/// What begins of a lane.
#[derive(Clone, Copy)]
struct LaneTurn {
    claim: LaneClaim,
    /// Whether all of it is one attempt.
    together: bool,
}

/// A call that runs.
struct BegunCall {
    id: String,
    attempt: u32,
    cause: Cause,
}

impl Worker {
    pub(crate) fn new(attempts: Attempts, threads: Handle) -> Self {
        let queue = attempts.queue.clone();
        Self {
            store: queue.store().clone(),
            workers: queue.settings().worker_count(),
            queue,
            attempts: Arc::new(attempts),
            threads,
            running: JoinSet::new(),
            begun: HashMap::new(),
            ended: Vec::new(),
        }
    }

    /// Runs calls until `stop` is true, and then gives those that run the time of `drain`. What has not
    /// ended by then is handed back.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>, drain: Duration) {
        // No other process has the store, so all that is claimed is left of one that ended.
        while let Err(error) = self.store.return_expired_leases(i64::MAX).await {
            report(&error, "taking over queued calls");
            time::sleep(LOOK).await;
        }
        let mut renew = time::interval(RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            let wait = self.begin().await;
            tokio::select! {
                Some(ended) = self.running.join_next_with_id(), if !self.running.is_empty() => {
                    self.note(ended);
                }
                () = self.queue.arrived() => {}
                () = time::sleep(wait) => {}
                _ = renew.tick() => self.renew().await,
                changed = stop.changed() => if changed.is_err() { break },
            }
            self.store_ended().await;
        }
        self.finish(drain).await;
    }

    /// Begins calls that are due. Returns how long to wait before another look.
    async fn begin(&mut self) -> Duration {
        let free = self.workers.saturating_sub(self.running.len() + self.ended.len());
        if free == 0 {
            return LOOK;
        }
        if self.attempts.is_busy() {
            self.queue.metrics().held_back.inc();
            return BUSY;
        }
        let now = now_ms();
        let lanes = match self.store.due_lanes().await {
            Ok(lanes) => lanes,
            Err(error) => {
                report(&error, "looking for queued calls");
                return LOOK;
            }
        };
        let turns = self.turns(&lanes, free, now);
        if turns.is_empty() {
            let later = lanes.iter().filter_map(|lane| lane.first_due_ms);
            let next = later.filter(|due| *due > now).min();
            let wait = next.map_or(LOOK, |due| Duration::from_millis((due - now).unsigned_abs()));
            return wait.min(LOOK);
        }
        let (lanes, together): (Vec<_>, Vec<_>) =
            turns.into_iter().map(|turn| (turn.claim, turn.together)).unzip();
        let claim = CallClaim { lanes, now_ms: now, lease_until_ms: now + LEASE_MS };
        match self.store.claim(claim).await {
            Ok(claimed) => {
                for (calls, together) in claimed.into_iter().zip(together) {
                    match together {
                        true => self.spawn(calls),
                        false => calls.into_iter().for_each(|call| self.spawn(vec![call])),
                    }
                }
                // Others may be due; the next look finds that out when one of these has ended.
                LOOK
            }
            Err(error) => {
                report(&error, "claiming queued calls");
                LOOK
            }
        }
    }

    /// How many attempts of each lane may begin: each lane gets one in turn, up to its own limit.
    fn turns(&self, lanes: &[LaneTotals], mut free: usize, now: i64) -> Vec<LaneTurn> {
        let mut shares: Vec<(LaneClaim, u32, u32)> = lanes
            .iter()
            .filter(|totals| totals.first_due_ms.is_some_and(|due| due <= now))
            .filter_map(|totals| {
                let Delivery { concurrency, batch } = self.attempts.delivery(totals)?;
                let run = self.begun.values().filter(|begun| begun.lane == totals.lane).count();
                let due = totals.due.div_ceil(batch.into());
                let most = concurrency.saturating_sub(u32::try_from(run).unwrap_or(u32::MAX));
                let most = most.min(u32::try_from(due).unwrap_or(u32::MAX));
                let claim = LaneClaim { lane: totals.lane, calls: batch, bytes: BATCH_BYTES };
                (most > 0).then_some((claim, most, 0))
            })
            .collect();
        while free > 0 && shares.iter().any(|(_, most, share)| share < most) {
            for (_, most, share) in &mut shares {
                if free > 0 && share < most {
                    (*share, free) = (*share + 1, free - 1);
                }
            }
        }
        let turns = shares.into_iter().filter(|(_, _, share)| *share > 0);
        let turns = turns.flat_map(|(claim, _, share)| match claim.calls {
            1 => {
                let claim = LaneClaim { calls: share, bytes: u64::MAX, ..claim };
                iter::repeat_n(LaneTurn { claim, together: false }, 1)
            }
            // One claim for each request.
            _ => iter::repeat_n(LaneTurn { claim, together: true }, share as usize),
        });
        turns.collect()
    }

    fn spawn(&mut self, calls: Vec<Invocation>) {
        // Fewer were due than it seemed: others wait for a later attempt.
        let Some(lane) = calls.first().map(|call| call.lane) else { return };
        let begun = calls.iter().map(|call| BegunCall {
            id: call.id.clone(),
            attempt: call.attempt,
            cause: call.cause,
        });
        let begun = BegunAttempt { lane, calls: begun.collect() };
        let attempts = Arc::clone(&self.attempts);
        let task = self.running.spawn_on(async move { attempts.run(calls).await }, &self.threads);
        self.begun.insert(task.id(), begun);
    }

    /// Notes the end of an attempt, and of all others that have ended by now.
    fn note(&mut self, first: Result<(Id, Vec<(Cause, Finished)>), JoinError>) {
        let mut next = Some(first);
        while let Some(ended) = next {
            match ended {
                Ok((id, ended)) => {
                    self.begun.remove(&id);
                    self.ended.extend(ended);
                }
                // A panic was logged where it happened. It is an attempt: another may panic as well.
                Err(error) => {
                    let begun = self.begun.remove(&error.id()).map(|begun| begun.calls);
                    self.ended.extend(begun.into_iter().flatten().map(BegunCall::after_panic));
                }
            }
            next = self.running.try_join_next_with_id();
        }
    }

    /// Stores what has ended. If that fails, the next look tries again; until then the places of the
    /// calls stay taken.
    async fn store_ended(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let finished = self.ended.iter().map(|(_, finished)| finished.clone()).collect();
        match self.store.finish(finished).await {
            Ok(_) => {
                for (cause, finished) in self.ended.drain(..) {
                    self.queue.metrics().ended(cause, finished.next);
                }
            }
            Err(error) => {
                report(&error, "storing what became of queued calls");
                time::sleep(BUSY).await;
            }
        }
    }

    async fn renew(&self) {
        let running = self.begun.values().flat_map(|begun| &begun.calls);
        let running = running.map(|call| call.id.clone());
        let ended = self.ended.iter().map(|(_, finished)| finished.id.clone());
        let ids: Vec<String> = running.chain(ended).collect();
        if ids.is_empty() {
            return;
        }
        if let Err(error) = self.store.renew_leases(&ids, now_ms() + LEASE_MS).await {
            report(&error, "renewing the leases of queued calls");
        }
    }

    /// Waits for the calls that run, and hands back those that take too long.
    async fn finish(mut self, drain: Duration) {
        let deadline = Instant::now() + drain;
        while !self.running.is_empty() {
            match time::timeout_at(deadline, self.running.join_next_with_id()).await {
                Ok(Some(ended)) => self.note(ended),
                Ok(None) | Err(_) => break,
            }
            self.store_ended().await;
        }
        self.running.abort_all();
        let left = self.begun.drain().flat_map(|(_, begun)| begun.calls);
        self.ended.extend(left.map(BegunCall::handed_back));
        self.store_ended().await;
    }
}

impl BegunCall {
    fn after_panic(self) -> (Cause, Finished) {
        let next = NextState::Retry { due_ms: now_ms() + LEASE_MS };
        self.finished(next, "the gateway failed during the attempt")
    }

    fn handed_back(self) -> (Cause, Finished) {
        let next = NextState::HandedBack { due_ms: now_ms() };
        self.finished(next, "the gateway stopped during the attempt")
    }

    fn finished(self, next: NextState, why: &str) -> (Cause, Finished) {
        let Self { id, attempt, cause } = self;
        let finished = Finished {
            id,
            attempt,
            next,
            error: Some(why.to_owned()),
            answer: None,
            follow_ups: Vec::new(),
            now_ms: now_ms(),
        };
        (cause, finished)
    }
}
