//! Schedules: calls of functions at times of the calendar.
//!
//! The store has each schedule as its owner wrote it, and what it has done. In memory is only when each
//! is due next. A change and a turn of the ticker exclude each other: when a change is acknowledged,
//! nothing runs by what was before it.

mod board;
mod calls;
mod metrics;
mod plan;
mod spec;
mod ticker;
mod timing;
pub(crate) mod turn;

use std::{collections::HashSet, sync::Arc};

use gateway_api::ScheduleSpec;
use jiff::Timestamp;
use prometheus::Registry;
use store::{ScheduleRecord, ScheduleRun, Store, Tenant};
use tokio::sync::{Mutex, Notify};

use crate::{
    functions::catalog::Catalog,
    telemetry::clock::now_ms,
    triggers::{
        call_queue::CallQueue,
        schedules::{
            board::{Board, BoardEntry},
            calls::ScheduledCalls,
            metrics::ScheduleMetrics,
            timing::CronTiming,
        },
    },
};

/// Due times that are shown.
const NEXT: usize = 5;

/// Why a schedule was not set or run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScheduleError {
    #[error("{0}")]
    Refused(String),
    #[error("there is no such schedule")]
    NotFound,
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A schedule, as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredSchedule {
    pub(crate) record: ScheduleRecord,
    pub(crate) spec: ScheduleSpec,
    /// The next due times.
    pub(crate) next: Vec<Timestamp>,
    /// The last runs, the newest first.
    pub(crate) runs: Vec<ScheduleRun>,
}

/// The schedules of all tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Schedules {
    state: Arc<SchedulesState>,
}

struct SchedulesState {
    store: Store,
    catalog: Arc<Catalog>,
    calls: ScheduledCalls,
    metrics: ScheduleMetrics,
    /// Held while a schedule changes, and while the ticker has its turn.
    board: Arc<Mutex<Board>>,
    changed: Notify,
}

impl Schedules {
    /// Reads all schedules.
    pub(crate) async fn load(
        store: &Store,
        catalog: &Arc<Catalog>,
        queue: &CallQueue,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let done = store.schedules_done_until().await?;
        let mut board = Board::default();
        let records = store.all_schedules().await?;
        for record in &records {
            match of_record(record) {
                Ok(spec) => {
                    let done = done.get(&record.id).copied();
                    board.set(record.id, BoardEntry::new(&spec, record.since_ms, done));
                }
                // It stays in the store, for a version that knows it.
                Err(why) => tracing::error!(name = record.name, why, "skipped a schedule"),
            }
        }
        // What is left of schedules whose deletion was interrupted.
        let known: HashSet<i64> = records.iter().map(|record| record.id).collect();
        for id in done.keys().filter(|id| !known.contains(id)) {
            store.forget_schedule(*id).await?;
        }
        let metrics = ScheduleMetrics::register(registry)?;
        metrics.count.set(records.len().try_into().unwrap_or(i64::MAX));
        let calls = ScheduledCalls::new(catalog, queue);
        let (store, board) = (store.clone(), Arc::new(Mutex::new(board)));
        let changed = Notify::new();
        let catalog = Arc::clone(catalog);
        let state = SchedulesState { store, catalog, calls, metrics, board, changed };
        Ok(Self { state: Arc::new(state) })
    }

    /// The schedules of a tenant after a name, at most `limit`, without their runs.
    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        after: &str,
        limit: u32,
    ) -> store::Result<Vec<StoredSchedule>> {
        let records = self.state.store.schedules(tenant, after, limit).await?;
        let mut schedules = Vec::with_capacity(records.len());
        for record in records {
            schedules.extend(self.stored(record, Vec::new()).await);
        }
        Ok(schedules)
    }

    /// A schedule with its runs.
    pub(crate) async fn get(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> store::Result<Option<StoredSchedule>> {
        let Some(record) = self.state.store.schedule(tenant, name).await? else { return Ok(None) };
        let runs = self.state.store.schedule_runs(record.id).await?;
        Ok(self.stored(record, runs).await)
    }

    /// `None` if it is one of a version that knows more.
    async fn stored(
        &self,
        record: ScheduleRecord,
        runs: Vec<ScheduleRun>,
    ) -> Option<StoredSchedule> {
        let spec = of_record(&record).ok()?;
        let done = self.state.board.lock().await.done_until(record.id);
        let next = next(&spec, record.since_ms.max(done.unwrap_or(i64::MIN)).max(now_ms()));
        Some(StoredSchedule { record, spec, next, runs })
    }

    /// Runs a schedule now, whatever it says about overlaps. Returns the id of the call and its time.
    pub(crate) async fn run(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> Result<(String, i64), ScheduleError> {
        let record = self.state.store.schedule(tenant, name).await?;
        let record = record.ok_or(ScheduleError::NotFound)?;
        let spec = of_record(&record).map_err(ScheduleError::Refused)?;
        let now = now_ms();
        let call = self.state.calls.asked_for(&record, &spec, now);
        let call = call.map_err(ScheduleError::Refused)?;
        let (id, limits) = (call.id.clone(), self.state.calls.limits(tenant, &spec));
        self.state.store.run_schedule(record.id, now, call, limits).await?;
        self.state.calls.added(1);
        self.state.metrics.add("asked-for", 1);
        Ok((id, now))
    }
}

/// Whether both are due at the same times.
fn has_same_times(one: &ScheduleSpec, other: &ScheduleSpec) -> bool {
    (&one.cron, &one.time_zone, one.paused) == (&other.cron, &other.time_zone, other.paused)
}

fn next(spec: &ScheduleSpec, after_ms: i64) -> Vec<Timestamp> {
    let timing = CronTiming::parse(&spec.cron, &spec.time_zone).ok().filter(|_| !spec.paused);
    let mut last = Timestamp::from_millisecond(after_ms).unwrap_or_default();
    let next = || {
        last = timing.as_ref()?.next_after(last)?;
        Some(last)
    };
    std::iter::from_fn(next).take(NEXT).collect()
}

fn of_record(record: &ScheduleRecord) -> Result<ScheduleSpec, String> {
    serde_json::from_str(&record.document).map_err(|error| error.to_string())
}
