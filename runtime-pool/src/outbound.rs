//! Which servers a guest may call, and our own way of calling them.
//!
//! Nothing is allowed by default. A function's settings grant hosts, schemes, ports and methods;
//! whatever they say, addresses that are not public are refused unless the operator permits them,
//! and this gateway's own listeners are out of reach. A name is resolved once, all its addresses
//! are vetted, and one of these is dialled. Redirects are the guest's to follow, and each is vetted
//! anew.
//!
//! Read `target` (what an address means), `grant`, `address`, then `connection` and `exchange`.

mod address;
mod cdn_loop;
mod client;
mod config;
mod connection;
mod credential;
mod exchange;
mod failure;
mod grant;
mod idle;
mod policy;
mod report;
mod resolve;
mod target;

use std::sync::{Arc, atomic::AtomicU32};

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

pub use self::{
    address::Listeners,
    cdn_loop::CdnLoop,
    config::{AddressRange, OutboundConfig},
    credential::{Credential, NotACredential},
    grant::Grant,
};
pub(crate) use self::{client::Client, policy::Policy};
use self::{exchange::Admitted, failure::Failure, report::Report, target::Target};
use crate::{error::Limit, metrics::guest_log::InvocationLog};

/// One invocation's requests.
pub(crate) struct Outbound {
    policy: Arc<Policy>,
    log: Arc<InvocationLog>,
    trail: Option<CdnLoop>,
    left: u32,
    // Made with the first request: most invocations make none.
    at_once: Option<Arc<Semaphore>>,
    lines: Option<Arc<AtomicU32>>,
}

impl Outbound {
    pub(crate) fn new(policy: Arc<Policy>, log: Arc<InvocationLog>) -> Self {
        let left = policy.client.config.per_invocation;
        Self { policy, log, trail: None, left, at_once: None, lines: None }
    }

    /// For a guest that answers nobody: nothing is allowed.
    pub(crate) fn denied(log: Arc<InvocationLog>) -> Self {
        let client = Client::new(OutboundConfig::default(), log.metrics().clone())
            .expect("without authorities of one's own there is nothing to read");
        let (client, nobody) = (Arc::new(client), Arc::from(""));
        let policy = Policy::new(client, Arc::clone(&nobody), nobody, Vec::new(), Vec::new());
        Self::new(Arc::new(policy), log)
    }

    /// Says by which way the invocation's own request has come.
    pub(crate) fn set_trail(&mut self, trail: CdnLoop) {
        self.trail = Some(trail);
    }

    /// Checks what can be checked without waiting.
    fn admit(
        &mut self,
        request: &http::Request<WasiBody>,
        report: &mut Report,
    ) -> Result<Target, Failure> {
        let target = Target::of(request.uri()).ok_or(Failure::Address)?;
        report.set_target(format!("{} {target}", request.method()));
        if !target::is_method(request.method()) {
            return Err(Failure::Method);
        }
        if !self.policy.granted.iter().any(|grant| grant.allows(request.method(), &target)) {
            return Err(Failure::NotGranted);
        }
        let most = self.policy.client.config.per_invocation;
        self.left = self.left.checked_sub(1).ok_or(Failure::Requests(most))?;
        Ok(target)
    }

    fn report(&mut self) -> Report {
        let metrics = self.policy.client.metrics.clone();
        let function = Arc::clone(&self.policy.function);
        let lines = Arc::clone(self.lines.get_or_insert_default());
        Report::new(metrics, function, Arc::clone(&self.log), lines)
    }

    fn at_once(&mut self) -> Arc<Semaphore> {
        let most = self.policy.client.config.at_once;
        Arc::clone(self.at_once.get_or_insert_with(|| Arc::new(Semaphore::new(most))))
    }
}

/// What `send_request` has to return: the response, and work that goes on after it. Ours goes on
/// in the response's body.
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Io), Error>;

impl WasiHttpHooks for Outbound {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&self.policy.client.forbidden_headers)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        self.log.body_chunk_bytes()
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        self.log.body_chunk_bytes()
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _request_errors: Io,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let policy = Arc::clone(&self.policy);
        let mut report = self.report();
        let target = match self.admit(&request, &mut report) {
            Ok(target) => target,
            Err(failure) => {
                let code = report.failed(&failure);
                return Box::new(async { Err(code) });
            }
        };
        // Asked for here, so that requests wait in the order in which they were made: guests read
        // the answers in that order, and one that is unread keeps its place.
        let mut place = Box::pin(self.at_once().acquire_owned());
        let at_once = place.as_mut().now_or_never();
        let options = options.unwrap_or_default();
        let trail = self.trail.clone();
        Box::new(async move {
            let permit = match at_once {
                Some(permit) => permit,
                None => {
                    policy.client.metrics.limit_hit(Limit::OutboundAtOnce);
                    place.await
                }
            };
            let permit = permit.expect("the semaphore is never closed");
            let admitted = Admitted { request, target, options, trail, report };
            let response = policy.send(admitted, permit).await?;
            Ok((response, Box::new(async { Ok(()) }) as Io))
        })
    }
}
