//! The state that the handlers of the control plane share.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use runtime_pool::{Pool, Sandbox};
use store::{Store, Tenant};

use crate::{
    config::Numbers,
    control::backup_metrics::BackupMetrics,
    functions::{
        catalog::Catalog,
        deploy::Deployer,
        files::Files,
        name::FunctionName,
        qualified_name::QualifiedName,
        quarantine::Quarantine,
        routes::{Routes, certificates::Certificates},
        secrets::Secrets,
        stores::Stores,
    },
    triggers::{call_queue::CallQueue, flows::Flows, queues::Queues, schedules::Schedules},
};

/// The state of all handlers.
#[derive(Clone)]
pub(crate) struct ControlState {
    /// The tenant whose functions, secrets and tokens this control plane manages.
    pub(crate) tenant: Tenant,
    pub(crate) deployer: Deployer,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) store: Store,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) pool: Arc<Pool>,
    /// The limits of the node, by section.
    pub(crate) limits: Arc<ArcSwap<Numbers>>,
    /// The parts of the compiler's sandbox that are in place, once the pool has tried it.
    pub(crate) sandbox: Arc<OnceLock<Sandbox>>,
    /// Whether uploads by tokens that may deploy but not administer need all of them.
    pub(crate) require_sandbox: bool,
    pub(crate) files: Files,
    pub(crate) backups: BackupMetrics,
    pub(crate) certificates: Certificates,
    pub(crate) secrets: Secrets,
    pub(crate) routes: Routes,
    pub(crate) stores: Stores,
    pub(crate) triggers: ControlTriggers,
    /// The beginning of functions' addresses, without a slash at its end.
    pub(crate) public_base: Arc<str>,
}

/// What calls functions when no client waits.
#[derive(Clone)]
pub(crate) struct ControlTriggers {
    pub(crate) queue: CallQueue,
    pub(crate) schedules: Schedules,
    pub(crate) queues: Queues,
    pub(crate) flows: Flows,
}

/// Bytes of a document of messages besides their bodies.
const AROUND_BODIES: usize = 256 << 10;

impl ControlState {
    /// Bytes of a document of messages that are published: a body of the largest size fits, whichever way
    /// JSON writes it.
    pub(crate) fn published_bytes(&self) -> usize {
        let body = usize::try_from(self.triggers.queue.settings().body_bytes).unwrap_or(usize::MAX);
        body.saturating_mul(2).saturating_add(AROUND_BODIES)
    }

    /// The function of this name that the control plane manages.
    pub(crate) fn qualified(&self, name: FunctionName) -> QualifiedName {
        QualifiedName { tenant: self.tenant.clone(), name }
    }
}
