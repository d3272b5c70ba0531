//! The right to change schedules: from their check until the ticker sees them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::{ChangeSchedule, ScheduleSpec};
use jiff::Timestamp;
use store::{PutSchedule, ScheduleRecord, Tenant};
use tokio::{sync::OwnedMutexGuard, task::spawn_blocking};

use crate::{
    functions::catalog::target::NamedTargets,
    telemetry::clock::now_ms,
    triggers::{
        call_queue::random_id,
        schedules::{
            ScheduleError, Schedules, StoredSchedule,
            board::{Board, BoardEntry},
            has_same_times, of_record, spec,
        },
    },
};

/// The right to change schedules. The ticker waits for it, too.
pub(crate) struct SchedulesTurn {
    schedules: Schedules,
    board: OwnedMutexGuard<Board>,
}

impl Schedules {
    /// Sets a schedule, or replaces all of it. Refuses a new one if there are `max`. Returns whether it is
    /// new.
    pub(crate) async fn put(
        &self,
        tenant: Tenant,
        name: &str,
        spec: ScheduleSpec,
        max: u64,
    ) -> Result<(StoredSchedule, bool), ScheduleError> {
        let puts = BTreeMap::from([(name.to_owned(), spec)]);
        let targets = NamedTargets::now(&self.state.catalog, &tenant);
        if let Some((_, why)) = self.check(&targets, &puts).await.into_iter().next() {
            return Err(ScheduleError::Refused(why));
        }
        let (name, spec) = puts.into_iter().next().expect("it has one");
        let this = self.clone();
        // In a task of its own: the ticker must see it even if the client disconnects.
        let put = tokio::spawn(async move {
            let mut turn = this.take_turn().await;
            this.set(&mut turn, (tenant, name), spec, max).await
        });
        let (record, is_new) = put.await.expect("the task does not panic and is not aborted")?;
        let runs = self.state.store.schedule_runs(record.id).await?;
        let stored = self.stored(record, runs).await.ok_or(ScheduleError::NotFound)?;
        Ok((stored, is_new))
    }

    /// Pauses or resumes a schedule.
    pub(crate) async fn change(
        &self,
        tenant: Tenant,
        name: &str,
        change: ChangeSchedule,
    ) -> Result<StoredSchedule, ScheduleError> {
        let (this, name) = (self.clone(), name.to_owned());
        let put = tokio::spawn(async move {
            let mut turn = this.take_turn().await;
            let before = this.state.store.schedule(&tenant, &name).await?;
            let before = before.ok_or(ScheduleError::NotFound)?;
            let mut spec = of_record(&before).map_err(ScheduleError::Refused)?;
            spec.paused = change.paused;
            this.set(&mut turn, (tenant, name), spec, u64::MAX).await
        });
        let (record, _) = put.await.expect("the task does not panic and is not aborted")?;
        let runs = self.state.store.schedule_runs(record.id).await?;
        self.stored(record, runs).await.ok_or(ScheduleError::NotFound)
    }

    async fn set(
        &self,
        turn: &mut SchedulesTurn,
        (tenant, name): (Tenant, String),
        spec: ScheduleSpec,
        max: u64,
    ) -> Result<(ScheduleRecord, bool), ScheduleError> {
        let put = turn.stored(&tenant, &name, &spec).await?;
        let (record, is_new) = self.state.store.put_schedule(put, max).await?;
        turn.show(&record, is_new);
        Ok((record, is_new))
    }

    /// Deletes a schedule. Returns whether there was one. Calls that it has enqueued still run.
    pub(crate) async fn delete(&self, tenant: Tenant, name: &str) -> store::Result<bool> {
        let (this, name) = (self.clone(), name.to_owned());
        let delete = tokio::spawn(async move {
            let mut turn = this.take_turn().await;
            let Some(record) = this.state.store.schedule(&tenant, &name).await? else {
                return Ok(false);
            };
            let deleted = this.state.store.delete_schedule(&tenant, &name).await?;
            turn.forget(record.id).await?;
            Ok(deleted)
        });
        delete.await.expect("the task does not panic and is not aborted")
    }

    /// The right to change schedules. Others, and the ticker, wait for it.
    pub(crate) async fn take_turn(&self) -> SchedulesTurn {
        let board = Arc::clone(&self.state.board).lock_owned().await;
        SchedulesTurn { schedules: self.clone(), board }
    }

    /// Checks schedules that are to be set. Returns what is wrong with each.
    pub(crate) async fn check(
        &self,
        targets: &NamedTargets<'_>,
        puts: &BTreeMap<String, ScheduleSpec>,
    ) -> Vec<(String, String)> {
        let checked = puts.clone();
        // An expression that is never due is searched for thousands of years.
        let check = move || {
            let alone = |(name, put): (&String, &ScheduleSpec)| {
                Some((name.clone(), spec::check(name, put, Timestamp::now()).err()?))
            };
            checked.iter().filter_map(alone).collect::<BTreeMap<_, _>>()
        };
        let mut wrong = spawn_blocking(check).await.expect("it does not panic");
        for (name, put) in puts {
            // They may go later; the runs are then refused.
            if let Err(why) = targets.check(&put.function, put.channel.as_deref()) {
                wrong.entry(name.clone()).or_insert(why);
            }
        }
        wrong.into_iter().collect()
    }
}

impl SchedulesTurn {
    /// A schedule as it is to be stored in place of what is there.
    pub(crate) async fn stored(
        &self,
        tenant: &Tenant,
        name: &str,
        spec: &ScheduleSpec,
    ) -> store::Result<PutSchedule> {
        let before = self.schedules.state.store.schedule(tenant, name).await?;
        let known = before.as_ref().and_then(|record| Some((of_record(record).ok()?, record)));
        let now = now_ms();
        let since_ms = match known {
            // Due times of another calendar, or of a pause, are not caught up with.
            Some((old, record)) if has_same_times(&old, spec) => record.since_ms,
            _ => now,
        };
        let document = serde_json::to_string(spec).expect("a schedule has a JSON form");
        let seed = random_id().map_err(|error| store::Error::Io {
            action: "asking the system for random bytes",
            source: error.into(),
        })?;
        let (tenant, name) = (tenant.clone(), name.to_owned());
        Ok(PutSchedule { tenant, name, document, seed, since_ms, now_ms: now })
    }

    /// Has the ticker see a schedule that was stored.
    pub(crate) fn show(&mut self, record: &ScheduleRecord, is_new: bool) {
        let state = &self.schedules.state;
        match of_record(record) {
            Ok(spec) => {
                let done = self.board.done_until(record.id);
                self.board.set(record.id, BoardEntry::new(&spec, record.since_ms, done));
            }
            // It was checked before it was stored.
            Err(why) => tracing::error!(name = record.name, why, "skipped a schedule"),
        }
        if is_new {
            state.metrics.count.inc();
        }
        state.changed.notify_one();
    }

    /// The ids of schedules that are about to be deleted.
    pub(crate) async fn ids(
        &self,
        tenant: &Tenant,
        names: &BTreeSet<String>,
    ) -> store::Result<Vec<i64>> {
        let mut ids = Vec::new();
        for name in names {
            ids.extend(self.schedules.state.store.schedule(tenant, name).await?.map(|it| it.id));
        }
        Ok(ids)
    }

    /// Forgets a schedule whose row was deleted.
    pub(crate) async fn forget(&mut self, id: i64) -> store::Result<()> {
        let state = &self.schedules.state;
        self.board.remove(id);
        state.metrics.count.dec();
        // If this is interrupted, the next start does it.
        state.store.forget_schedule(id).await?;
        Ok(())
    }
}
