//! The flows in memory, by id and by name.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
};

use gateway_api::FlowSpec;
use store::{DocumentRecord, StepRecord, Tenant};

/// Runs of each flow that are remembered. Arbitrary: a page of them.
const RECENT: usize = 20;

/// A flow as it is in force.
#[derive(Debug)]
pub(crate) struct NamedFlow {
    pub(crate) id: i64,
    pub(crate) tenant: Tenant,
    pub(crate) name: String,
    pub(crate) spec: FlowSpec,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    /// Its name in metrics.
    pub(super) label: Arc<str>,
    recent: Mutex<VecDeque<Arc<RecentRun>>>,
}

/// A run whose client has waited.
#[derive(Debug)]
pub(crate) struct RecentRun {
    pub(crate) id: String,
    pub(crate) started_ms: i64,
    pub(crate) ended_ms: i64,
    pub(crate) outcome: &'static str,
    pub(crate) steps: Vec<StepRecord>,
}

impl NamedFlow {
    /// An error says what this version does not know of what is stored.
    pub(super) fn new(record: DocumentRecord, label: Arc<str>) -> Result<Self, String> {
        let DocumentRecord { id, tenant, name, document, created_ms, updated_ms } = record;
        let spec = serde_json::from_str(&document).map_err(|error| error.to_string())?;
        let recent = Mutex::default();
        Ok(Self { id, tenant, name, spec, created_ms, updated_ms, label, recent })
    }

    /// Remembers a run, in place of the oldest.
    pub(super) fn remember(&self, run: RecentRun) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(RECENT - 1);
        recent.push_front(Arc::new(run));
    }

    /// The last runs, the newest first.
    pub(crate) fn recent(&self) -> Vec<Arc<RecentRun>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().cloned().collect()
    }
}

/// All flows.
#[derive(Clone, Debug, Default)]
pub(super) struct FlowTable {
    by_id: HashMap<i64, Arc<NamedFlow>>,
    by_name: BTreeMap<(Tenant, String), Arc<NamedFlow>>,
}

impl FlowTable {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn by_id(&self, id: i64) -> Option<&Arc<NamedFlow>> {
        self.by_id.get(&id)
    }

    pub(super) fn by_name(&self, tenant: &Tenant, name: &str) -> Option<&Arc<NamedFlow>> {
        self.by_name.get(&(tenant.clone(), name.to_owned()))
    }

    /// The flows of a tenant after a name, ordered by name.
    pub(super) fn after(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> impl Iterator<Item = &Arc<NamedFlow>> {
        let from = Bound::Excluded((tenant.clone(), name.to_owned()));
        let after = self.by_name.range((from, Bound::Unbounded));
        let tenant = tenant.clone();
        after.take_while(move |((owner, _), _)| *owner == tenant).map(|(_, flow)| flow)
    }

    pub(super) fn set(&mut self, flow: Arc<NamedFlow>) {
        let name = (flow.tenant.clone(), flow.name.clone());
        self.by_id.insert(flow.id, Arc::clone(&flow));
        self.by_name.insert(name, flow);
    }

    pub(super) fn remove(&mut self, flow: &NamedFlow) {
        self.by_id.remove(&flow.id);
        self.by_name.remove(&(flow.tenant.clone(), flow.name.clone()));
    }
}
