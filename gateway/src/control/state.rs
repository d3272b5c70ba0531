//! What the handlers of the control plane work with.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use runtime_pool::{Pool, Sandbox};
use store::{Store, Tenant};

use crate::{
    config::Numbers,
    functions::{
        catalog::Catalog,
        deploy::Deployer,
        name::{FunctionName, QualifiedName},
        quarantine::Quarantine,
        secrets::Secrets,
    },
};

/// What the routes about functions need.
#[derive(Clone)]
pub(crate) struct ControlState {
    /// The tenant whose functions, secrets and tokens this control plane manages.
    pub(crate) tenant: Tenant,
    pub(crate) deployer: Deployer,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) store: Store,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) pool: Arc<Pool>,
    /// What the node allows, by section.
    pub(crate) limits: Arc<ArcSwap<Numbers>>,
    /// Which barriers stand around the compiler, once that was tried.
    pub(crate) sandbox: Arc<OnceLock<Sandbox>>,
    pub(crate) secrets: Secrets,
    /// What functions' addresses begin with, without a slash at its end.
    pub(crate) public_base: Arc<str>,
}

impl ControlState {
    /// The function of this name that the control plane manages.
    pub(crate) fn qualified(&self, name: FunctionName) -> QualifiedName {
        QualifiedName { tenant: self.tenant.clone(), name }
    }
}
