//! Opens connections for guests: resolves a name, checks its addresses and dials one of them.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{self, Instant},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, RootCertStore,
        pki_types::{CertificateDer, pem::PemObject as _},
    },
};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, ForbiddenHeaderFilter};

use super::{
    cdn_loop,
    config::OutboundConfig,
    connection::{StepTimeouts, UpstreamConnection},
    failure::OutboundFailure,
    functions::FunctionCalls,
    resolve::{LookupShare, Resolver},
    rules::{
        address::{self, Listeners},
        credential::NodeSecrets,
        target::Target,
    },
};
use crate::{error::StartError, metrics::PoolMetrics};

/// Addresses of one name that are tried in turn.
const ATTEMPTS: usize = 8;

/// Opens connections for guests. There is one for the node.
pub(crate) struct OutboundClient {
    pub(super) config: OutboundConfig,
    pub(super) tls: ClientConfig,
    resolver: Resolver,
    /// Permits for idle connections.
    pub(super) idle_permits: Arc<Semaphore>,
    /// Set once the listeners are bound, which is before the first invocation.
    listeners: OnceLock<Listeners>,
    /// Set before the first invocation. Weak: what calls functions has the pool.
    functions: OnceLock<Weak<dyn FunctionCalls>>,
    pub(super) forbidden_headers: ForbiddenHeaderFilter,
    /// The secrets that credentials name.
    pub(crate) secrets: NodeSecrets,
    pub(super) metrics: PoolMetrics,
}

impl OutboundClient {
    pub(crate) fn new(config: OutboundConfig, metrics: PoolMetrics) -> Result<Self, StartError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let what = "reading outbound.ca_file";
        let pem = config.authorities().map_err(|error| StartError::new(what, error))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| StartError::new(what, error))?;
            roots.add(certificate).map_err(|error| StartError::new(what, error))?;
        }
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider supports the default versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
        Ok(Self {
            resolver: Resolver::new(&config, metrics.clone()),
            idle_permits: Arc::new(Semaphore::new(config.idle_connections)),
            config,
            tls,
            listeners: OnceLock::new(),
            functions: OnceLock::new(),
            forbidden_headers: Arc::new(|name| {
                DEFAULT_FORBIDDEN_HEADERS.contains(name) || *name == cdn_loop::HEADER
            }),
            secrets: NodeSecrets::default(),
            metrics,
        })
    }

    /// Sets the addresses on which the gateway listens.
    pub(crate) fn set_listeners(&self, listeners: Listeners) {
        // Listeners are bound once, so a second call changes nothing.
        let _ = self.listeners.set(listeners);
    }

    /// Sets what calls functions for guests.
    pub(crate) fn set_functions(&self, functions: Weak<dyn FunctionCalls>) {
        // As above.
        let _ = self.functions.set(functions);
    }

    /// What calls functions for guests, while there is a gateway.
    pub(super) fn functions(&self) -> Option<Arc<dyn FunctionCalls>> {
        self.functions.get()?.upgrade()
    }

    /// Opens a connection to one of the target's addresses.
    pub(super) async fn connect(
        &self,
        target: &Target,
        lookups: &LookupShare,
        tls: impl FnOnce() -> TlsConnector,
        times: &StepTimeouts,
    ) -> Result<UpstreamConnection, OutboundFailure> {
        let stream = self.dial(target, lookups, times.connect).await?;
        UpstreamConnection::open(stream, target, tls, times.tls, &self.config, &self.metrics).await
    }

    /// Resolves once and dials an address that was checked, so that a second answer of the name
    /// server cannot change it.
    async fn dial(
        &self,
        target: &Target,
        lookups: &LookupShare,
        within: Duration,
    ) -> Result<TcpStream, OutboundFailure> {
        let deadline = Instant::now() + within;
        let addresses = time::timeout_at(deadline, self.resolver.resolve(target, lookups))
            .await
            .map_err(|_| OutboundFailure::NameTime(within))??;
        // One address that may not be called makes the whole name fail. Otherwise a retry could
        // pick that address by chance.
        for address in &addresses {
            self.vet(*address)?;
        }
        let mut last = OutboundFailure::ConnectTime(within);
        let attempts = addresses.len().min(ATTEMPTS);
        for (address, left) in addresses.into_iter().zip((1..=attempts).rev()) {
            // Each address has its share of the time, so that the later ones get theirs.
            let share = deadline.saturating_duration_since(Instant::now()) / to_u32(left);
            match time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = OutboundFailure::Connect(error),
                Err(_) => last = OutboundFailure::ConnectTime(within),
            }
        }
        Err(last)
    }

    fn vet(&self, address: SocketAddr) -> Result<(), OutboundFailure> {
        // A pool without a gateway, as in a benchmark, has no listeners.
        let none = Listeners::default();
        address::vet(&self.config, self.listeners.get().unwrap_or(&none), address)
    }
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
