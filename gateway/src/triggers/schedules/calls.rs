//! The calls that schedules put into the queue.

use std::sync::Arc;

use gateway_api::ScheduleSpec;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use store::{
    Cause, EnqueueLimits, Lane, NewInvocation, ScheduleRecord, StoredFields, StoredRequest, Tenant,
};

use crate::{
    functions::catalog::{Catalog, CatalogEntry},
    telemetry::request_id::id_string,
    triggers::call_queue::{CallQueue, random_id},
};

/// The field by which a guest sees the name of the schedule. Only the gateway can set it.
const SCHEDULE: &str = "mayfly-schedule";
/// The field by which a guest sees when its run was due.
const DUE_TIME: &str = "mayfly-due-time";

/// Makes calls.
#[derive(Clone, Debug)]
pub(crate) struct ScheduledCalls {
    catalog: Arc<Catalog>,
    queue: CallQueue,
}

impl ScheduledCalls {
    pub(crate) fn new(catalog: &Arc<Catalog>, queue: &CallQueue) -> Self {
        Self { catalog: Arc::clone(catalog), queue: queue.clone() }
    }

    /// The call for a due time. An error says why there can be none.
    pub(crate) fn due(
        &self,
        record: &ScheduleRecord,
        spec: &ScheduleSpec,
        due_ms: i64,
        now_ms: i64,
    ) -> Result<NewInvocation, String> {
        self.call(id_of(record, due_ms), record, spec, (due_ms, now_ms))
    }

    /// The call of a run that was asked for.
    pub(crate) fn asked_for(
        &self,
        record: &ScheduleRecord,
        spec: &ScheduleSpec,
        now_ms: i64,
    ) -> Result<NewInvocation, String> {
        let id = random_id().map_err(|error| format!("the system has no random bytes: {error}"))?;
        self.call(id, record, spec, (now_ms, now_ms))
    }

    fn call(
        &self,
        id: String,
        record: &ScheduleRecord,
        spec: &ScheduleSpec,
        (due_ms, now_ms): (i64, i64),
    ) -> Result<NewInvocation, String> {
        let entry = self.target(&record.tenant, spec)?;
        let due = Timestamp::from_millisecond(due_ms).unwrap_or_default().to_string();
        let field = |(name, value): (&str, &str)| (name.to_owned(), value.as_bytes().to_vec());
        let own = [("host", "localhost"), (SCHEDULE, record.name.as_str()), (DUE_TIME, &due)];
        let given = spec.request.headers.iter().map(|(name, value)| (name.as_str(), &**value));
        Ok(NewInvocation {
            id,
            tenant: record.tenant.clone(),
            lane: Lane::Function(entry.key.function),
            function: spec.function.clone(),
            function_id: entry.key.function,
            channel: spec.channel.clone(),
            revision: None,
            cause: Cause::Schedule,
            source: Some(record.name.clone()),
            // No client has caused it.
            context: "{}".to_owned(),
            request: StoredRequest {
                method: spec.request.method.clone(),
                target: spec.request.path.clone(),
                fields: StoredFields(own.into_iter().chain(given).map(field).collect()),
                body: spec.request.body.clone().into_bytes(),
            },
            created_ms: now_ms,
            due_ms: due_ms.min(now_ms),
            expires_ms: now_ms.saturating_add(entry.background.age_ms),
            dedup: None,
        })
    }

    /// The function that a schedule calls, with its channel. An error says what is not there.
    pub(crate) fn target(
        &self,
        tenant: &Tenant,
        spec: &ScheduleSpec,
    ) -> Result<Arc<CatalogEntry>, String> {
        self.catalog.target(tenant, &spec.function, spec.channel.as_deref())
    }

    /// How much may wait, with the calls of this schedule's function.
    pub(crate) fn limits(&self, tenant: &Tenant, spec: &ScheduleSpec) -> EnqueueLimits {
        let entry = self.catalog.get(tenant, &spec.function);
        self.queue.limits(entry.map_or(0, |entry| entry.background.calls))
    }

    /// Counts calls that were enqueued, and has them run.
    pub(crate) fn added(&self, calls: u64) {
        self.queue.added(Cause::Schedule, calls);
    }
}

/// The id of the call that a schedule makes for a due time: always the same, and unguessable, because it
/// opens the answer.
fn id_of(record: &ScheduleRecord, due_ms: i64) -> String {
    let hash = Sha256::digest(format!("{} {due_ms}", record.seed));
    let half = hash.first_chunk().expect("a hash has 32 bytes");
    id_string(u128::from_be_bytes(*half))
}
