//! The right to change flows: from their check until calls see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::FlowSpec;
use store::{DocumentRecord, Lane, Tenant};
use tokio::sync::OwnedMutexGuard;

use crate::{
    functions::catalog::target::NamedTargets,
    triggers::flows::{
        Flows,
        plan::{self, FlowPlan},
        spec,
        table::NamedFlow,
    },
};

/// The right to change flows.
pub(crate) struct FlowsTurn {
    flows: Flows,
    _held: OwnedMutexGuard<()>,
}

impl Flows {
    /// The right to change flows. Others wait for it.
    pub(crate) async fn take_turn(&self) -> FlowsTurn {
        let held = Arc::clone(&self.state.changes).lock_owned().await;
        FlowsTurn { flows: self.clone(), _held: held }
    }

    /// Has calls see a flow that was stored. An error says what this version does not know of it.
    pub(super) fn install(&self, record: DocumentRecord) -> Result<Arc<NamedFlow>, String> {
        let label = self.state.parts.metrics.label(&record.tenant, &record.name);
        let flow = Arc::new(NamedFlow::new(record, label)?);
        self.swap(|table| table.set(Arc::clone(&flow)));
        Ok(flow)
    }

    /// The asynchronous runs of a flow that have not ended, or are dead.
    pub(super) async fn not_done(&self, flow: &NamedFlow) -> store::Result<u64> {
        let totals = self.state.store.lane(Lane::Flow(flow.id)).await?;
        Ok(totals.map_or(0, |lane| lane.due + lane.running + lane.dead))
    }

    /// Forgets a flow whose row was deleted, with its asynchronous runs.
    pub(super) async fn forget(&self, flow: &NamedFlow) -> store::Result<()> {
        self.swap(|table| table.remove(flow));
        self.state.parts.metrics.forget(&flow.label);
        // If this is interrupted, the next start does it.
        self.state.store.forget_lane(Lane::Flow(flow.id)).await?;
        Ok(())
    }
}

impl FlowsTurn {
    /// Checks flows that are to be set, while those of `deleted` go. Returns what is wrong with each.
    pub(crate) fn check(
        &self,
        targets: &NamedTargets<'_>,
        puts: &BTreeMap<String, FlowSpec>,
        deleted: &BTreeSet<String>,
    ) -> Vec<(String, String)> {
        let alone = |(name, flow): (&String, &FlowSpec)| {
            let checked = spec::check(name, flow).and_then(|()| check_functions(targets, flow));
            Some((name.clone(), checked.err()?))
        };
        let wrong: Vec<_> = puts.iter().filter_map(alone).collect();
        if wrong.is_empty() { self.check_nesting(targets, puts, deleted) } else { wrong }
    }

    /// Whether each flow, and each flow that it would be a part of, ends somewhere and is not too large.
    fn check_nesting(
        &self,
        targets: &NamedTargets<'_>,
        puts: &BTreeMap<String, FlowSpec>,
        deleted: &BTreeSet<String>,
    ) -> Vec<(String, String)> {
        let (tenant, table) = (targets.tenant(), self.flows.state.table.load());
        let find = |name: &str| match puts.get(name) {
            Some(flow) => Some(flow.clone()),
            None if deleted.contains(name) => None,
            None => table.by_name(tenant, name).map(|flow| flow.spec.clone()),
        };
        let planned = |(name, flow): (&String, &FlowSpec)| {
            Some((name.clone(), FlowPlan::new(name, flow, &find).err()?))
        };
        let wrong: Vec<_> = puts.iter().filter_map(planned).collect();
        if !wrong.is_empty() {
            return wrong;
        }
        let stay = |name: &String| !puts.contains_key(name) && !deleted.contains(name);
        for other in table.after(tenant, "").filter(|other| stay(&other.name)) {
            if let Err(why) = FlowPlan::new(&other.name, &other.spec, &find) {
                let why = format!("steps: the flow {:?} has this one within it: {why}", other.name);
                let names = |name: &&String| within(&other.spec, name, &find);
                let name = puts.keys().chain(deleted).find(names);
                return vec![(name.unwrap_or(&other.name).clone(), why)];
            }
        }
        Vec::new()
    }

    /// The flows that have a flow within them.
    pub(super) fn using<'a>(
        &self,
        tenant: &Tenant,
        name: &'a str,
    ) -> impl Iterator<Item = Arc<NamedFlow>> + use<'a> {
        let all: Vec<_> = self.flows.state.table.load().after(tenant, "").map(Arc::clone).collect();
        let names = move |other: &Arc<NamedFlow>| {
            plan::calls(&other.spec).any(|step| step.flow.as_deref() == Some(name))
        };
        all.into_iter().filter(names)
    }

    /// Whether there is a flow of this name.
    pub(crate) fn exists(&self, tenant: &Tenant, name: &str) -> bool {
        self.flows.exists(tenant, name)
    }

    /// Why a flow should not be deleted together with the others of `deleted`, if there is a reason.
    pub(crate) async fn in_use(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> store::Result<Option<String>> {
        let Ok(flow) = self.flows.by_name(tenant, name) else { return Ok(None) };
        let runs = self.flows.not_done(&flow).await?;
        Ok((runs > 0).then(|| {
            format!(
                "the flow {name:?} has {runs} runs that are not done; delete it with them first"
            )
        }))
    }

    /// Has calls see flows that were stored.
    pub(crate) fn show(&self, stored: Vec<DocumentRecord>) {
        for record in stored {
            let name = record.name.clone();
            // It was checked before it was stored.
            if let Err(why) = self.flows.install(record) {
                tracing::error!(name, why, "skipped a flow");
            }
        }
    }

    /// Forgets flows whose rows were deleted, with their asynchronous runs.
    pub(crate) async fn forget(&self, tenant: &Tenant, deleted: &BTreeSet<String>) {
        for name in deleted {
            let Ok(flow) = self.flows.by_name(tenant, name) else { continue };
            if let Err(error) = self.flows.forget(&flow).await {
                // The next start removes its runs.
                tracing::error!(name, %error, "forgetting the runs of a flow");
            }
        }
    }
}

/// Whether the functions of a flow are there. They may go later; the steps then fail.
fn check_functions(targets: &NamedTargets<'_>, flow: &FlowSpec) -> Result<(), String> {
    let mut calls = plan::calls(flow);
    calls.try_for_each(|step| match &step.function {
        Some(function) => targets.check(function, step.channel.as_deref()),
        None => Ok(()),
    })
}

/// Whether a flow names another one in a step, or has one within it that does.
fn within(flow: &FlowSpec, name: &str, find: &impl Fn(&str) -> Option<FlowSpec>) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![flow.clone()];
    while let Some(flow) = open.pop() {
        for inner in plan::calls(&flow).filter_map(|step| step.flow.as_deref()) {
            if inner == name {
                return true;
            }
            if seen.insert(inner.to_owned()) {
                open.extend(find(inner));
            }
        }
    }
    false
}
