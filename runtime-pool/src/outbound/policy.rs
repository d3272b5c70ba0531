//! The outbound policy of one revision of a function.

use std::sync::{Arc, OnceLock};

use tokio_rustls::{TlsConnector, rustls::client::Resumption};

use super::{
    client::OutboundClient,
    idle::IdleConnections,
    resolve::LookupShare,
    rules::{credential::Credential, grant::Grant},
};

/// TLS sessions that a function may resume.
const TLS_SESSIONS: usize = 16;

/// The servers that one revision of a function may call, and the connections that it has open.
pub(crate) struct Policy {
    pub(super) client: Arc<OutboundClient>,
    /// The owner of the secrets that the credentials name.
    pub(super) tenant: Arc<str>,
    /// The function's name within its tenant.
    pub(super) name: Arc<str>,
    /// The function's label in metrics.
    pub(super) label: Arc<str>,
    pub(super) granted: Vec<Grant>,
    pub(super) credentials: Vec<Credential>,
    /// Shared with the task that closes old ones.
    pub(super) idle: Arc<IdleConnections>,
    /// Its part of the node's look-ups.
    pub(super) lookups: LookupShare,
    tls: OnceLock<TlsConnector>,
}

/// Whose requests a [`Policy`] is about, and what its settings allow them.
#[derive(Default)]
pub(crate) struct PolicySettings {
    pub(crate) tenant: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) label: Arc<str>,
    pub(crate) granted: Vec<Grant>,
    pub(crate) credentials: Vec<Credential>,
}

impl Policy {
    pub(crate) fn new(client: Arc<OutboundClient>, settings: PolicySettings) -> Self {
        let idle = Arc::new(IdleConnections::new(&client.config, Arc::clone(&client.idle_permits)));
        let PolicySettings { tenant, name, label, granted, credentials } = settings;
        let (lookups, tls) = (LookupShare::new(&client.config), OnceLock::new());
        Self { client, tenant, name, label, granted, credentials, idle, lookups, tls }
    }

    /// A connector with sessions of its own: a server cannot link two functions of one node, and a
    /// function cannot resume the session of another.
    pub(super) fn tls(&self) -> TlsConnector {
        let connector = || {
            let mut config = self.client.tls.clone();
            config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS);
            TlsConnector::from(Arc::new(config))
        };
        self.tls.get_or_init(connector).clone()
    }
}
