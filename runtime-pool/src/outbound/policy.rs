//! What one revision of a function may call.

use std::sync::{Arc, OnceLock};

use tokio_rustls::{TlsConnector, rustls::client::Resumption};

use super::{client::Client, credential::Credential, grant::Grant, idle::Idle};

/// TLS sessions that a function may take up again.
const TLS_SESSIONS: usize = 16;

/// What one revision of a function may call, and the connections that it has open.
pub(crate) struct Policy {
    pub(super) client: Arc<Client>,
    /// The owner of the secrets that the credentials name.
    pub(super) tenant: Arc<str>,
    /// The function's label in metrics.
    pub(super) function: Arc<str>,
    pub(super) granted: Vec<Grant>,
    pub(super) credentials: Vec<Credential>,
    pub(super) idle: Arc<Idle>,
    tls: OnceLock<TlsConnector>,
}

impl Policy {
    pub(crate) fn new(
        client: Arc<Client>,
        tenant: Arc<str>,
        function: Arc<str>,
        granted: Vec<Grant>,
        credentials: Vec<Credential>,
    ) -> Self {
        let idle = Arc::new(Idle::new(&client.config, Arc::clone(&client.idle_places)));
        Self { client, tenant, function, granted, credentials, idle, tls: OnceLock::new() }
    }

    /// With sessions of its own: no server can tell that it was called by two functions of one
    /// node, and none takes up what another function has begun.
    pub(super) fn tls(&self) -> TlsConnector {
        let connector = || {
            let mut config = self.client.tls.clone();
            config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS);
            TlsConnector::from(Arc::new(config))
        };
        self.tls.get_or_init(connector).clone()
    }
}
