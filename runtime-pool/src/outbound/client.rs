//! Calls out for guests: resolves a name, vets its addresses and dials one of them.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
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
    address::{self, Listeners},
    cdn_loop,
    config::OutboundConfig,
    connection::{Connection, Times},
    credential::Secrets,
    failure::Failure,
    resolve::Resolver,
    target::Target,
};
use crate::{error::StartError, metrics::PoolMetrics};

/// Addresses of one name that are tried one after the other.
const ATTEMPTS: usize = 8;

/// Calls out for guests. One for the node.
pub(crate) struct Client {
    pub(super) config: OutboundConfig,
    pub(super) tls: ClientConfig,
    resolver: Resolver,
    /// Places for connections that wait.
    pub(super) idle_places: Arc<Semaphore>,
    /// Known once they are bound, which is before the first invocation.
    listeners: OnceLock<Listeners>,
    pub(super) forbidden_headers: ForbiddenHeaderFilter,
    /// What functions' credentials name.
    pub(crate) secrets: Secrets,
    pub(super) metrics: PoolMetrics,
}

impl Client {
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
            resolver: Resolver::new(config.resolver),
            idle_places: Arc::new(Semaphore::new(config.idle_connections)),
            config,
            tls,
            listeners: OnceLock::new(),
            forbidden_headers: Arc::new(|name| {
                DEFAULT_FORBIDDEN_HEADERS.contains(name) || *name == cdn_loop::HEADER
            }),
            secrets: Secrets::default(),
            metrics,
        })
    }

    /// Says where the gateway listens.
    pub(crate) fn set_listeners(&self, listeners: Listeners) {
        // They are bound once.
        let _ = self.listeners.set(listeners);
    }

    /// Opens a connection to one of the target's addresses.
    pub(super) async fn connect(
        &self,
        target: &Target,
        tls: impl FnOnce() -> TlsConnector,
        times: &Times,
    ) -> Result<Connection, Failure> {
        let stream = self.dial(target, times.connect).await?;
        Connection::open(stream, target, tls, times.tls, &self.config, &self.metrics).await
    }

    /// Resolves once and dials what was vetted: a second answer of the name server would change
    /// nothing.
    async fn dial(&self, target: &Target, within: Duration) -> Result<TcpStream, Failure> {
        let deadline = Instant::now() + within;
        let addresses = time::timeout_at(deadline, self.resolver.resolve(target))
            .await
            .map_err(|_| Failure::NameTime(within))??;
        // One address that is not permitted taints the name: it may be there to be found by chance.
        for address in &addresses {
            self.vet(*address)?;
        }
        let mut last = Failure::ConnectTime(within);
        let attempts = addresses.len().min(ATTEMPTS);
        for (address, left) in addresses.into_iter().zip((1..=attempts).rev()) {
            // None of them may use up the time of those after it.
            let share = deadline.saturating_duration_since(Instant::now()) / to_u32(left);
            match time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = Failure::Connect(error),
                Err(_) => last = Failure::ConnectTime(within),
            }
        }
        Err(last)
    }

    fn vet(&self, address: SocketAddr) -> Result<(), Failure> {
        // Who serves nobody, such as a benchmark, listens nowhere.
        let none = Listeners::default();
        address::vet(&self.config, self.listeners.get().unwrap_or(&none), address)
    }
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
