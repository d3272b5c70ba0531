//! The queues in memory, by id and by name.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use gateway_api::QueueSpec;
use store::{DocumentRecord, Tenant};

/// A queue as it is in force. Immutable.
#[derive(Debug)]
pub(crate) struct NamedQueue {
    pub(crate) id: i64,
    pub(crate) tenant: Tenant,
    pub(crate) name: String,
    pub(crate) spec: QueueSpec,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    /// Its name in metrics.
    pub(crate) label: Arc<str>,
}

impl NamedQueue {
    /// An error says what this version does not know of what is stored.
    pub(super) fn new(record: DocumentRecord, label: Arc<str>) -> Result<Self, String> {
        let DocumentRecord { id, tenant, name, document, created_ms, updated_ms } = record;
        let spec = serde_json::from_str(&document).map_err(|error| error.to_string())?;
        Ok(Self { id, tenant, name, spec, created_ms, updated_ms, label })
    }

    /// How old a message gets, in milliseconds.
    pub(crate) fn max_age_ms(&self) -> i64 {
        i64::from(self.spec.max_age_s) * 1_000
    }

    #[cfg(test)]
    pub(crate) fn for_tests(spec: &QueueSpec) -> Self {
        let document = serde_json::to_string(spec).unwrap();
        let (tenant, name) = (Tenant::default(), "orders".to_owned());
        let record = DocumentRecord { id: 1, tenant, name, document, created_ms: 0, updated_ms: 0 };
        Self::new(record, "orders".into()).unwrap()
    }
}

/// All queues.
#[derive(Clone, Debug, Default)]
pub(super) struct QueueTable {
    by_id: HashMap<i64, Arc<NamedQueue>>,
    by_name: BTreeMap<(Tenant, String), Arc<NamedQueue>>,
}

impl QueueTable {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<NamedQueue>> {
        self.by_id.values()
    }

    pub(super) fn by_id(&self, id: i64) -> Option<&Arc<NamedQueue>> {
        self.by_id.get(&id)
    }

    pub(super) fn by_name(&self, tenant: &Tenant, name: &str) -> Option<&Arc<NamedQueue>> {
        self.by_name.get(&(tenant.clone(), name.to_owned()))
    }

    /// The queues of a tenant after a name, ordered by name.
    pub(super) fn after(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> impl Iterator<Item = &Arc<NamedQueue>> {
        let from = Bound::Excluded((tenant.clone(), name.to_owned()));
        let after = self.by_name.range((from, Bound::Unbounded));
        let tenant = tenant.clone();
        after.take_while(move |((owner, _), _)| *owner == tenant).map(|(_, queue)| queue)
    }

    pub(super) fn set(&mut self, queue: Arc<NamedQueue>) {
        let name = (queue.tenant.clone(), queue.name.clone());
        self.by_id.insert(queue.id, Arc::clone(&queue));
        self.by_name.insert(name, queue);
    }

    pub(super) fn remove(&mut self, queue: &NamedQueue) {
        self.by_id.remove(&queue.id);
        self.by_name.remove(&(queue.tenant.clone(), queue.name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_listed_by_name_within_their_tenant() {
        let mut table = QueueTable::default();
        let other = Tenant::try_from("other").unwrap();
        for (id, tenant, name) in
            [(1, Tenant::default(), "b"), (2, other, "a"), (3, Tenant::default(), "a")]
        {
            let name = name.to_owned();
            let queue =
                NamedQueue { id, tenant, name, ..NamedQueue::for_tests(&QueueSpec::default()) };
            table.set(Arc::new(queue));
        }
        let after = |name| -> Vec<i64> {
            table.after(&Tenant::default(), name).map(|queue| queue.id).collect()
        };
        assert_eq!((after(""), after("a"), after("b")), (vec![3, 1], vec![1], vec![]));
        assert_eq!(table.by_name(&Tenant::default(), "a").unwrap().id, 3);
        let first = Arc::clone(table.by_id(1).unwrap());
        table.remove(&first);
        assert_eq!((table.len(), table.by_name(&Tenant::default(), "b").is_none()), (2, true));
    }
}
