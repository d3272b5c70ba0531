//! Which servers may a guest call, and how are its requests sent?
//!
//! Nothing is allowed by default. A function's settings grant hosts, schemes, ports and methods.
//! Addresses that are not public are refused all the same, unless the operator permits them, and
//! this gateway's own listeners are refused as well. A name is resolved once, all its addresses are
//! checked, and one of these is dialled. A guest follows redirects itself, so each of them is
//! checked as a request of its own.
//!
//! Read `rules` (where a request goes, what may be called), `client` (one for the node), `policy` (one
//! for a revision), then `connection` and `exchange`. The gateway's own requests to URLs of owners go
//! the same way (`vetted`).

mod cdn_loop;
mod client;
mod config;
mod connection;
mod exchange;
mod failure;
mod framing;
mod functions;
mod idle;
mod policy;
mod report;
mod resolve;
mod rules;
mod vetted;

use std::sync::{Arc, atomic::AtomicU32};

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

pub use self::{
    cdn_loop::CdnLoop,
    config::{AddressRange, NameSource, NotANameSource, OutboundConfig},
    functions::{FunctionAnswer, FunctionBody, FunctionCalls, FunctionRequest},
    rules::{
        address::Listeners,
        credential::{Credential, NotACredential, Secret, SecretHost},
        grant::{Grant, NotAGrant},
    },
    vetted::{VettedAnswer, VettedClient, VettedError, VettedRequest},
};
pub(crate) use self::{
    client::OutboundClient,
    functions::RequestOrigin,
    policy::{Policy, PolicySettings},
};
use self::{
    exchange::Admitted,
    failure::OutboundFailure,
    report::OutboundReport,
    rules::target::{self, Target},
};
use crate::{error::Limit, metrics::guest_log::InvocationLog};

/// One invocation's requests.
pub(crate) struct Outbound {
    policy: Arc<Policy>,
    log: Arc<InvocationLog>,
    origin: RequestOrigin,
    /// Requests that the invocation may still make.
    left: u32,
    /// Permits for open requests. Made with the first request: most invocations make none.
    at_once: Option<Arc<Semaphore>>,
    /// Failures that were written to the log.
    lines: Option<Arc<AtomicU32>>,
}

impl Outbound {
    pub(crate) fn new(policy: Arc<Policy>, log: Arc<InvocationLog>) -> Self {
        let left = policy.client.config.per_invocation;
        Self { policy, log, origin: RequestOrigin::default(), left, at_once: None, lines: None }
    }

    /// For a guest that runs without a request, at its start-up: every request is refused.
    pub(crate) fn denied(log: Arc<InvocationLog>) -> Self {
        let client = OutboundClient::new(OutboundConfig::default(), log.metrics().clone())
            .expect("the default configuration has no file to read");
        let policy = Policy::new(Arc::new(client), PolicySettings::default());
        Self::new(Arc::new(policy), log)
    }

    /// The log of the invocation.
    pub(crate) fn log(&self) -> &InvocationLog {
        &self.log
    }

    /// Sets where the invocation's own request comes from.
    pub(crate) fn set_origin(&mut self, origin: RequestOrigin) {
        self.origin = origin;
    }

    /// The checks that need no waiting: the address, the method, the grants, the number of
    /// requests.
    fn admit(
        &mut self,
        request: &http::Request<WasiBody>,
        report: &mut OutboundReport,
    ) -> Result<Target, OutboundFailure> {
        let target = Target::of(request.uri()).ok_or(OutboundFailure::Address)?;
        report.set_target(format!("{} {target}", request.method()));
        if !target::is_method(request.method()) {
            return Err(OutboundFailure::Method);
        }
        if !self.policy.granted.iter().any(|grant| grant.allows(request.method(), &target)) {
            return Err(OutboundFailure::NotGranted);
        }
        let most = self.policy.client.config.per_invocation;
        self.left = self.left.checked_sub(1).ok_or(OutboundFailure::Requests(most))?;
        Ok(target)
    }

    fn report(&mut self) -> OutboundReport {
        let metrics = self.policy.client.metrics.clone();
        let function = Arc::clone(&self.policy.label);
        let lines = Arc::clone(self.lines.get_or_insert_default());
        OutboundReport::new(metrics, function, Arc::clone(&self.log), lines)
    }

    fn at_once(&mut self) -> Arc<Semaphore> {
        let most = self.policy.client.config.at_once;
        Arc::clone(self.at_once.get_or_insert_with(|| Arc::new(Semaphore::new(most))))
    }
}

/// Work that continues beside a request or after its response. Here the bodies do all of it.
type BackgroundWork = Box<dyn Future<Output = Result<(), Error>> + Send>;
/// The result of `send_request`.
type SendResult = Result<(http::Response<WasiBody>, BackgroundWork), Error>;

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
        _request_errors: BackgroundWork,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        let policy = Arc::clone(&self.policy);
        let mut report = self.report();
        let target = match self.admit(&request, &mut report) {
            Ok(target) => target,
            Err(failure) => {
                let code = report.failed(&failure);
                return Box::new(async { Err(code) });
            }
        };
        // Acquired here, so that requests wait in the order in which the guest makes them. Guests
        // read the responses in that order, and an unread response keeps its permit.
        let mut permit = Box::pin(self.at_once().acquire_owned());
        let acquired = permit.as_mut().now_or_never();
        let options = options.unwrap_or_default();
        let (origin, invocation) = (self.origin.clone(), self.log.invocation());
        Box::new(async move {
            let permit = match acquired {
                Some(permit) => permit,
                None => {
                    policy.client.metrics.limit_hit(Limit::OutboundAtOnce);
                    permit.await
                }
            };
            let permit = permit.expect("the semaphore is never closed");
            let admitted = Admitted { request, target, options, origin, invocation, report };
            let response = policy.send(admitted, permit).await?;
            Ok((response, Box::new(async { Ok(()) }) as BackgroundWork))
        })
    }
}
