//! Flows: functions that are called one after the other, or at once, over one state.
//!
//! The store has each flow as its owner wrote it; in memory are the flows alone. A run whose client waits is no
//! more than the calls of its steps. An asynchronous run is a call in a lane of the flow's, which has the whole
//! plan with it; each step that has ended is on the disk before the next one begins, so that a crash, or another
//! attempt, goes on there. `run` makes the calls, whoever waits.

mod durable;
mod metrics;
pub(crate) mod plan;
mod progress;
mod run;
mod spec;
mod state;
pub(crate) mod table;
pub(crate) mod turn;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use gateway_api::FlowSpec;
use prometheus::Registry;
use store::{
    CallState, InvocationFilter, InvocationSummary, Lane, LaneTotals, PutDocument, StepRecord,
    Store, StoredRequest, Tenant,
};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    config::Config,
    functions::catalog::{Catalog, target::NamedTargets},
    problem::{Problem, table as problems},
    telemetry::clock::now_ms,
    triggers::{
        call_queue::{CallQueue, random_id},
        calling::FunctionCaller,
        flows::{
            metrics::FlowMetrics,
            plan::FlowPlan,
            progress::RunProgress,
            run::{FailedStep, FailedWhy, FlowFailure, FlowParts, FlowRun},
            table::{FlowTable, NamedFlow, RecentRun},
        },
        queued_call::CallOrigin,
    },
};

/// Why a flow was not changed or started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlowError {
    #[error("{0}")]
    Refused(String),
    #[error("there is no such flow")]
    NotFound,
    #[error("{0}")]
    InUse(String),
    /// An earlier run with this name was asked something else.
    #[error("an earlier run with this `idempotency_key` has another input")]
    OtherRun,
    #[error("the input is larger than {max} bytes")]
    TooLarge { max: u64 },
    #[error("the system has no random bytes")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A flow with what is known of its asynchronous runs.
pub(crate) type FlowWithTotals = (Arc<NamedFlow>, Option<LaneTotals>);

/// The answer of a run.
pub(crate) struct FlowAnswer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Bytes,
    /// The place of the step that has failed, if the answer is that of an error.
    pub(crate) failed_step: Option<String>,
}

/// A request to a flow, of a client that waits.
pub(crate) struct FlowRequest {
    pub(crate) request: StoredRequest,
    pub(crate) origin: CallOrigin,
    /// What the client has in flight besides.
    pub(crate) others: usize,
    /// The time for it, if it is less than the flow's.
    pub(crate) timeout: Option<Duration>,
}

/// The flows of all tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Flows {
    state: Arc<NamedFlows>,
}

struct NamedFlows {
    store: Store,
    calls: CallQueue,
    parts: FlowParts,
    /// The most asynchronous runs of a flow that wait or go on.
    runs_max: u64,
    /// Held while a flow changes.
    changes: Arc<Mutex<()>>,
    table: ArcSwap<FlowTable>,
}

impl Flows {
    /// Reads all flows.
    pub(crate) async fn load(
        (store, catalog): (&Store, &Arc<Catalog>),
        (calls, functions): (&CallQueue, &FunctionCaller),
        (registry, config): (&Registry, &Config),
    ) -> anyhow::Result<Self> {
        let metrics = FlowMetrics::register(registry, config.metrics.flows)?;
        let mut table = FlowTable::default();
        let mut known = Vec::new();
        for record in store.all_flows().await? {
            known.push(record.id);
            let (name, label) = (record.name.clone(), metrics.label(&record.tenant, &record.name));
            match NamedFlow::new(record, label) {
                Ok(flow) => table.set(Arc::new(flow)),
                // It stays in the store, for a version that knows it.
                Err(why) => tracing::error!(name, why, "skipped a flow"),
            }
        }
        // What is left of flows whose deletion was interrupted.
        for lane in store.lanes().await? {
            if let Lane::Flow(id) = lane.lane
                && !known.contains(&id)
            {
                store.forget_lane(lane.lane).await?;
            }
        }
        metrics.count.set(i64::try_from(table.len()).unwrap_or(i64::MAX));
        let parts = FlowParts {
            catalog: Arc::clone(catalog),
            functions: functions.clone(),
            metrics: Arc::new(metrics),
            state_bytes: config.flows.state_bytes,
        };
        let runs_max = config.flows.runs;
        let (changes, table) = (Arc::default(), ArcSwap::from_pointee(table));
        let (store, calls) = (store.clone(), calls.clone());
        Ok(Self { state: Arc::new(NamedFlows { store, calls, parts, runs_max, changes, table }) })
    }

    fn by_name(&self, tenant: &Tenant, name: &str) -> Result<Arc<NamedFlow>, FlowError> {
        self.state.table.load().by_name(tenant, name).cloned().ok_or(FlowError::NotFound)
    }

    /// Whether there is a flow of this name.
    pub(crate) fn exists(&self, tenant: &Tenant, name: &str) -> bool {
        self.state.table.load().by_name(tenant, name).is_some()
    }

    /// The most bytes of a request: the state has room for answers besides.
    pub(crate) fn request_bytes(&self) -> u64 {
        self.state.parts.state_bytes as u64 / 2
    }

    /// The flows of a tenant after a name, at most `limit`.
    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        after: &str,
        limit: usize,
    ) -> store::Result<Vec<FlowWithTotals>> {
        let page: Vec<_> =
            self.state.table.load().after(tenant, after).take(limit).cloned().collect();
        let mut flows = Vec::with_capacity(page.len());
        for flow in page {
            flows.push(self.with_totals(flow).await?);
        }
        Ok(flows)
    }

    /// A flow.
    pub(crate) async fn get(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> Result<FlowWithTotals, FlowError> {
        let flow = self.by_name(tenant, name)?;
        Ok(self.with_totals(flow).await?)
    }

    async fn with_totals(&self, flow: Arc<NamedFlow>) -> store::Result<FlowWithTotals> {
        let totals = self.state.store.lane(Lane::Flow(flow.id)).await?;
        Ok((flow, totals))
    }

    /// Sets a flow, or replaces all of it. Refuses a new one if there are `max`. Returns whether it is new.
    pub(crate) async fn put(
        &self,
        tenant: Tenant,
        name: &str,
        spec: FlowSpec,
        max: u64,
    ) -> Result<(FlowWithTotals, bool), FlowError> {
        let (this, name) = (self.clone(), name.to_owned());
        // In a task of its own: calls must see it even if the client disconnects.
        let put = tokio::spawn(async move {
            let turn = this.take_turn().await;
            let puts = BTreeMap::from([(name, spec)]);
            let targets = NamedTargets::now(&this.state.parts.catalog, &tenant);
            let wrong = turn.check(&targets, &puts, &BTreeSet::new());
            if let Some((_, why)) = wrong.into_iter().next() {
                return Err(FlowError::Refused(why));
            }
            let (name, spec) = puts.into_iter().next().expect("it has one");
            let document = serde_json::to_string(&spec).expect("a flow has a JSON form");
            let put = PutDocument { tenant, name, document, now_ms: now_ms() };
            let (record, is_new) = this.state.store.put_flow(put, max).await?;
            let flow = this.install(record).map_err(FlowError::Refused)?;
            Ok::<_, FlowError>((flow, is_new))
        });
        let (flow, is_new) = put.await.expect("the task does not panic and is not aborted")?;
        Ok((self.with_totals(flow).await?, is_new))
    }

    fn swap(&self, change: impl FnOnce(&mut FlowTable)) {
        let state = &self.state;
        let mut table = FlowTable::clone(&state.table.load());
        change(&mut table);
        state.parts.metrics.count.set(i64::try_from(table.len()).unwrap_or(i64::MAX));
        state.table.store(Arc::new(table));
    }

    /// Deletes a flow with its asynchronous runs. One with runs that have not ended, or are dead, only if it
    /// must, and one that is a part of another one not at all.
    pub(crate) async fn delete(
        &self,
        tenant: Tenant,
        name: &str,
        must: bool,
    ) -> Result<(), FlowError> {
        let (this, name) = (self.clone(), name.to_owned());
        let delete = tokio::spawn(async move {
            let turn = this.take_turn().await;
            let flow = this.by_name(&tenant, &name)?;
            if let Some(other) = turn.using(&tenant, &name).next() {
                let why = format!("the flow {:?} has it within it", other.name);
                return Err(FlowError::InUse(why));
            }
            let runs = this.not_done(&flow).await?;
            if runs > 0 && !must {
                return Err(FlowError::InUse(format!("it has {runs} runs that are not done")));
            }
            this.state.store.delete_flow(flow.id).await?;
            this.forget(&flow).await?;
            Ok(())
        });
        delete.await.expect("the task does not panic and is not aborted")
    }

    /// The plan of a run that begins. An error says which flow is not there any more.
    fn plan(&self, flow: &NamedFlow) -> Result<FlowPlan, String> {
        let table = self.state.table.load();
        let find = |other: &str| table.by_name(&flow.tenant, other).map(|flow| flow.spec.clone());
        FlowPlan::new(&flow.name, &flow.spec, &find)
    }

    /// Runs a flow while its client waits.
    pub(crate) async fn run(
        &self,
        tenant: &Tenant,
        name: &str,
        asked: FlowRequest,
    ) -> Result<FlowAnswer, Problem> {
        let flow = self.by_name(tenant, name).map_err(|_| Problem::flow_not_found(name))?;
        let plan = self.plan(&flow).map_err(|why| {
            Problem::new(&problems::FLOW_NOT_FOUND).detail(format!("the flow {name:?}: {why}"))
        })?;
        let id = random_id().map_err(|error| Problem::internal(&error))?;
        let FlowRequest { request, origin, others, timeout } = asked;
        let own = Duration::from_millis(plan.flow.timeout_ms);
        let timeout = timeout.map_or(own, |timeout| timeout.min(own));
        let (started, started_ms) = (Instant::now(), now_ms());
        let run = Arc::new(FlowRun {
            parts: self.state.parts.clone(),
            tenant: tenant.clone(),
            id: id.clone(),
            attempt: 1,
            plan,
            label: Arc::clone(&flow.label),
            request,
            origin,
            others: Some(others),
            deadline: started + timeout,
            progress: RunProgress::in_memory(),
        });
        let ended = Arc::clone(&run).run().await;
        let outcome = outcome(ended.as_ref().err());
        self.state.parts.metrics.run(&flow.label, outcome, started.elapsed().as_secs_f64());
        let steps = run.progress.take();
        flow.remember(RecentRun { id, started_ms, ended_ms: now_ms(), outcome, steps });
        match ended {
            Ok(value) => Ok(FlowAnswer {
                status: 200,
                content_type: value.content_type,
                body: value.body,
                failed_step: None,
            }),
            Err(failure) => self.failed(name, failure, timeout),
        }
    }

    /// The answer to a client whose run has failed.
    fn failed(
        &self,
        name: &str,
        failure: FlowFailure,
        timeout: Duration,
    ) -> Result<FlowAnswer, Problem> {
        match failure {
            FlowFailure::Step(failed) => {
                let FailedStep { path, status, why, .. } = *failed;
                match why {
                    FailedWhy::Answer(value) => Ok(FlowAnswer {
                        status,
                        content_type: value.content_type,
                        body: value.body,
                        failed_step: Some(path),
                    }),
                    FailedWhy::Problem(problem) => Err(problem.of_step(&path)),
                }
            }
            FlowFailure::TooLarge => Err(run::too_large(self.state.parts.state_bytes)),
            FlowFailure::OutOfTime => Err(Problem::new(&problems::FLOW_TIMEOUT)
                .detail(format!("the limit is {} ms", timeout.as_millis()))
                .hint(format!("Raise `timeout_ms` of the flow {name:?}."))),
            // Runs whose clients wait have no other attempts.
            FlowFailure::Superseded => Err(Problem::broken()),
            FlowFailure::Store(error) => Err(Problem::of_store(&error)),
        }
    }

    /// The asynchronous runs of a flow, newest first: those before the cursor, or the newest.
    pub(crate) async fn runs(
        &self,
        tenant: &Tenant,
        name: &str,
        state: Option<CallState>,
        (before, limit): (Option<i64>, u32),
    ) -> Result<Vec<InvocationSummary>, FlowError> {
        let lane = Some(Lane::Flow(self.by_name(tenant, name)?.id));
        let filter = InvocationFilter { function: None, state, lane };
        Ok(self.state.store.invocations(tenant, &filter, before, limit).await?)
    }

    /// An asynchronous run of a flow, with its steps so far.
    pub(crate) async fn durable_run(
        &self,
        tenant: &Tenant,
        name: &str,
        id: &str,
    ) -> Result<Option<(store::Invocation, Vec<StepRecord>)>, FlowError> {
        let flow = self.by_name(tenant, name)?;
        let call = self.state.calls.get(tenant, id).await?;
        let Some(call) = call.filter(|call| call.lane == Lane::Flow(flow.id)) else {
            return Ok(None);
        };
        let steps = self.state.store.flow_steps(id).await?;
        Ok(Some((call, steps)))
    }
}

/// How a run has ended, as metrics and the history name it.
fn outcome(failure: Option<&FlowFailure>) -> &'static str {
    match failure {
        None => "ok",
        Some(FlowFailure::Step(_)) => "error",
        Some(FlowFailure::TooLarge) => "too-large",
        Some(FlowFailure::OutOfTime) => "timeout",
        Some(FlowFailure::Superseded | FlowFailure::Store(_)) => "interrupted",
    }
}
