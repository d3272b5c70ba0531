//! Sends one request over one connection, and enforces the limits of the response.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{self, Instant, Sleep},
};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::{
    cdn_loop::{self, CdnLoop},
    connection::{StepTimeouts, UpstreamConnection},
    failure::OutboundFailure,
    framing::framed,
    functions::RequestOrigin,
    policy::Policy,
    report::OutboundReport,
    rules::{credential::Requester, target::Target},
};

/// A request that has passed the checks of `Outbound`.
pub(super) struct Admitted {
    pub(super) request: http::Request<WasiBody>,
    pub(super) target: Target,
    pub(super) options: RequestOptions,
    pub(super) origin: RequestOrigin,
    /// The invocation that makes it.
    pub(super) invocation: u128,
    pub(super) report: OutboundReport,
}

/// Held until the end of a response: the connection, if it needed one, which the next request can use,
/// and the permit, which counts against the invocation's limit of open requests.
pub(super) struct Lease {
    pub(super) policy: Arc<Policy>,
    pub(super) connection: Option<(Target, UpstreamConnection)>,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Policy {
    /// Sends a request, and waits for the head of its response.
    pub(super) async fn send(
        self: Arc<Self>,
        admitted: Admitted,
        permit: OwnedSemaphorePermit,
    ) -> Result<http::Response<WasiBody>, Error> {
        if admitted.target.function().is_some() {
            // Boxed, so that requests to servers are no larger.
            return Box::pin(self.call_function(admitted, permit)).await;
        }
        let Admitted { request, target, options, origin, mut report, .. } = admitted;
        let times = StepTimeouts::of(&self.client.config, &options);
        let request = self.prepare(request, &target, origin.cdn_loop.as_ref());
        let exchanged = async {
            let request = framed(request?).await?;
            let (response, connection) = self.exchange(request, &target, &times).await?;
            // No request asks for another protocol, and other 1xx are never the last.
            if response.status().is_informational() {
                return Err(OutboundFailure::Upgrade(response.status()));
            }
            let max = self.client.config.response_bytes;
            if response.body().size_hint().lower() > max {
                return Err(OutboundFailure::ResponseBytes(max));
            }
            Ok((response, connection))
        };
        match exchanged.await {
            Ok((response, connection)) => {
                report.responded();
                let connection = Some((target, connection));
                let lease = Lease { policy: self, connection, _permit: permit };
                Ok(response.map(|body| {
                    UpstreamBody::new(body, times.between_bytes, report, lease).boxed_unsync()
                }))
            }
            Err(failure) => Err(report.failed(&failure)),
        }
    }

    /// Puts a request into the form of HTTP/1.1: the path in its target, the host in a header. Adds
    /// the secrets that the function's credentials name.
    pub(super) fn prepare(
        &self,
        request: http::Request<WasiBody>,
        target: &Target,
        cdn_loop: Option<&CdnLoop>,
    ) -> Result<http::Request<WasiBody>, OutboundFailure> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        // `?x` is the root with a query.
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        parts.uri = path.parse().map_err(|_| OutboundFailure::Address)?;
        let host =
            HeaderValue::try_from(target.authority()).map_err(|_| OutboundFailure::Address)?;
        let secrets = &self.client.secrets;
        let requester = Requester { tenant: &self.tenant, function: &self.name };
        secrets.add(&requester, &self.credentials, &parts.method, target, &mut parts.headers)?;
        parts.headers.insert(header::HOST, host);
        parts.headers.insert(cdn_loop::HEADER, CdnLoop::extended(cdn_loop));
        Ok(http::Request::from_parts(parts, body))
    }

    /// Sends the request on an idle connection, or on one that it opens.
    async fn exchange(
        &self,
        mut request: http::Request<WasiBody>,
        target: &Target,
        times: &StepTimeouts,
    ) -> Result<(http::Response<Incoming>, UpstreamConnection), OutboundFailure> {
        loop {
            let idle = self.idle.take(target).await;
            let was_used = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.client.connect(target, &self.lookups, || self.tls(), times).await?,
            };
            let sent = connection.sender.try_send_request(request);
            let mut error = match time::timeout(times.first_byte, sent).await {
                Ok(Ok(response)) => return Ok((response, connection)),
                Ok(Err(error)) => error,
                Err(_) => return Err(OutboundFailure::FirstByteTime(times.first_byte)),
            };
            // The server has closed an idle connection, and has not read any of the request.
            match error.take_message() {
                Some(unsent) if was_used => request = unsent,
                _ => return Err(error.into_error().into()),
            }
        }
    }
}

/// The body of a response, with its limits.
pub(super) struct UpstreamBody<B> {
    body: B,
    max: u64,
    left: u64,
    between: Duration,
    silence: Pin<Box<Sleep>>,
    report: OutboundReport,
    /// Until the end of the body.
    lease: Option<Lease>,
    failed: bool,
}

impl<B: Body> UpstreamBody<B> {
    pub(super) fn new(body: B, between: Duration, report: OutboundReport, lease: Lease) -> Self {
        let max = lease.policy.client.config.response_bytes;
        let silence = Box::pin(time::sleep(between));
        let lease = Some(lease);
        let mut this =
            Self { body, max, left: max, between, silence, report, lease, failed: false };
        this.release_at_end();
        this
    }

    /// Releases the connection once the whole body is read.
    fn release_at_end(&mut self) {
        if self.body.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(Lease { policy, connection: Some((target, connection)), .. }) =
            self.lease.take()
        {
            policy.idle.put(target, connection);
        }
    }

    /// Ends the body with an error. The connection cannot be used again.
    fn fail(&mut self, failure: &OutboundFailure) -> Error {
        self.lease = None;
        self.failed = true;
        self.report.failed(failure)
    }
}

impl<B> Body for UpstreamBody<B>
where
    B: Body<Data = Bytes, Error: Into<OutboundFailure>> + Unpin,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            let silent = this.silence.as_mut().poll(cx);
            return silent
                .map(|()| Some(Err(this.fail(&OutboundFailure::BetweenTime(this.between)))));
        };
        this.silence.as_mut().reset(Instant::now() + this.between);
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(this.fail(&error.into())))),
            None => {
                this.release();
                return Poll::Ready(None);
            }
        };
        match this.left.checked_sub(frame.data_ref().map_or(0, Bytes::len) as u64) {
            Some(left) => this.left = left,
            None => {
                return Poll::Ready(Some(
                    Err(this.fail(&OutboundFailure::ResponseBytes(this.max))),
                ));
            }
        }
        // Trailers are the last frame, and a guest that has them may not ask for more.
        if frame.is_trailers() {
            this.release();
        }
        this.release_at_end();
        Poll::Ready(Some(Ok(frame)))
    }
}
