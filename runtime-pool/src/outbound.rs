//! Which hosts a guest may call, and our own way of calling them.
//!
//! Nothing is allowed by default. A function's settings name the hosts it may call; whatever
//! they say, addresses that are not public are refused unless the operator allows them. A name is
//! resolved once and the vetted address is dialled, so a second answer of the name server changes
//! nothing. Redirects are the guest's to follow, and each is vetted anew.

mod address;
mod connect;
mod pattern;

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tokio_rustls::{TlsConnector, rustls};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody,
    WasiHttpHooks,
};

pub use self::pattern::HostPattern;
use crate::limits::BODY_CHUNK_BYTES;

/// What holds for all requests that leave any guest.
#[derive(Clone, Debug)]
pub struct OutboundConfig {
    /// Whether loopback, private, link-local and other addresses that are not public may be called.
    pub allow_private: bool,
    /// Time to resolve a name and open a connection.
    pub connect: Duration,
    /// Time for a TLS handshake.
    pub tls: Duration,
    /// Time from the request to the head of its response.
    pub first_byte: Duration,
    /// Time between two parts of a response's body.
    pub between_bytes: Duration,
    /// Bytes of a response's body.
    pub response_bytes: u64,
    /// Requests that one invocation may make.
    pub per_invocation: u32,
    /// Requests that one invocation may have open at once.
    pub at_once: usize,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            allow_private: false,
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            between_bytes: Duration::from_secs(30),
            response_bytes: 10 << 20,
            per_invocation: 50,
            at_once: 6,
        }
    }
}

/// Calls out for guests. One for the node.
pub(crate) struct Client {
    config: OutboundConfig,
    tls: TlsConnector,
    forbidden_headers: ForbiddenHeaderFilter,
}

impl Client {
    pub(crate) fn new(config: OutboundConfig) -> Self {
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
        Self {
            config,
            tls: TlsConnector::from(Arc::new(tls)),
            forbidden_headers: Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name)),
        }
    }
}

/// What one function may call.
pub(crate) struct Policy {
    client: Arc<Client>,
    allowed: Vec<HostPattern>,
}

impl Policy {
    pub(crate) fn new(client: Arc<Client>, allowed: Vec<HostPattern>) -> Self {
        Self { client, allowed }
    }
}

/// One invocation's requests.
pub(crate) struct Outbound {
    policy: Arc<Policy>,
    left: u32,
    at_once: Option<Arc<Semaphore>>,
}

impl Outbound {
    pub(crate) fn new(policy: Arc<Policy>) -> Self {
        let left = policy.client.config.per_invocation;
        Self { policy, left, at_once: None }
    }

    /// For a guest that answers nobody: nothing is allowed.
    pub(crate) fn denied() -> Self {
        let client = Arc::new(Client::new(OutboundConfig::default()));
        Self::new(Arc::new(Policy::new(client, Vec::new())))
    }

    /// Checks what can be checked without waiting.
    fn admit(&mut self, request: &http::Request<WasiBody>) -> Result<(), Error> {
        let target = connect::Target::of(request.uri())?;
        if !self.policy.allowed.iter().any(|pattern| pattern.allows(&target)) {
            return Err(Error::HttpRequestDenied);
        }
        self.left = self.left.checked_sub(1).ok_or(Error::ConnectionLimitReached)?;
        Ok(())
    }
}

/// What `send_request` has to return: the response, and the work that keeps its body coming.
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Io), Error>;

impl WasiHttpHooks for Outbound {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&self.policy.client.forbidden_headers)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _request_errors: Io,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        if let Err(error) = self.admit(&request) {
            return Box::new(async { Err(error) });
        }
        let policy = Arc::clone(&self.policy);
        let at_once = policy.client.config.at_once;
        let at_once =
            Arc::clone(self.at_once.get_or_insert_with(|| Arc::new(Semaphore::new(at_once))));
        Box::new(async move {
            let permit = at_once.acquire_owned().await.expect("the semaphore is never closed");
            policy.client.send(request, options.unwrap_or_default(), permit).await
        })
    }
}
