//! One request over one connection, and the limits of its answer.

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
    connection::{Connection, Times},
    failure::Failure,
    policy::Policy,
    report::Report,
    target::Target,
};

/// A request that may be sent.
pub(super) struct Admitted {
    pub(super) request: http::Request<WasiBody>,
    pub(super) target: Target,
    pub(super) options: RequestOptions,
    pub(super) trail: Option<CdnLoop>,
    pub(super) report: Report,
}

/// What is given back when an answer ends: the connection for the next request, and the
/// invocation's right to have one open.
struct Lease {
    policy: Arc<Policy>,
    target: Target,
    connection: Connection,
    _permit: OwnedSemaphorePermit,
}

impl Policy {
    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn send(
        self: Arc<Self>,
        admitted: Admitted,
        permit: OwnedSemaphorePermit,
    ) -> Result<http::Response<WasiBody>, Error> {
        let Admitted { request, target, options, trail, mut report } = admitted;
        let times = Times::of(&self.client.config, &options);
        let request = self.prepare(request, &target, trail.as_ref());
        let exchanged = async {
            let (response, connection) = self.exchange(request?, &target, &times).await?;
            let max = self.client.config.response_bytes;
            if response.body().size_hint().lower() > max {
                return Err(Failure::ResponseBytes(max));
            }
            Ok((response, connection))
        };
        match exchanged.await {
            Ok((response, connection)) => {
                report.answered();
                let lease = Lease { policy: self, target, connection, _permit: permit };
                Ok(response.map(|body| {
                    ResponseBody::new(body, times.between_bytes, report, lease).boxed_unsync()
                }))
            }
            Err(failure) => Err(report.failed(&failure)),
        }
    }

    /// To the host itself a request names only the path; the host is in its own header.
    fn prepare(
        &self,
        request: http::Request<WasiBody>,
        target: &Target,
        trail: Option<&CdnLoop>,
    ) -> Result<http::Request<WasiBody>, Failure> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        // `?x` is the root with a query.
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        parts.uri = path.parse().map_err(|_| Failure::Address)?;
        let host = HeaderValue::try_from(target.authority()).map_err(|_| Failure::Address)?;
        let secrets = &self.client.secrets;
        secrets.add(&self.tenant, &self.credentials, &parts.method, target, &mut parts.headers)?;
        parts.headers.insert(header::HOST, host);
        parts.headers.insert(cdn_loop::HEADER, CdnLoop::leaving(trail));
        Ok(http::Request::from_parts(parts, body))
    }

    /// Takes a connection that waits, or opens one.
    async fn exchange(
        &self,
        mut request: http::Request<WasiBody>,
        target: &Target,
        times: &Times,
    ) -> Result<(http::Response<Incoming>, Connection), Failure> {
        loop {
            let waited = self.idle.take(target).await;
            let used_before = waited.is_some();
            let mut connection = match waited {
                Some(connection) => connection,
                None => self.client.connect(target, || self.tls(), times).await?,
            };
            let sent = connection.sender.try_send_request(request);
            let mut error = match time::timeout(times.first_byte, sent).await {
                Ok(Ok(response)) => return Ok((response, connection)),
                Ok(Err(error)) => error,
                Err(_) => return Err(Failure::FirstByteTime(times.first_byte)),
            };
            // The server closed it while it waited, and has seen nothing of the request.
            match error.take_message() {
                Some(unsent) if used_before => request = unsent,
                _ => return Err(error.into_error().into()),
            }
        }
    }
}

/// An answer's body with its limits.
struct ResponseBody {
    body: Incoming,
    max: u64,
    left: u64,
    between: Duration,
    silence: Pin<Box<Sleep>>,
    report: Report,
    /// Until the body has ended.
    lease: Option<Lease>,
    failed: bool,
}

impl ResponseBody {
    fn new(body: Incoming, between: Duration, report: Report, lease: Lease) -> Self {
        let max = lease.policy.client.config.response_bytes;
        let silence = Box::pin(time::sleep(between));
        let lease = Some(lease);
        let mut this =
            Self { body, max, left: max, between, silence, report, lease, failed: false };
        this.release_at_end();
        this
    }

    /// Gives the connection back once all has been read.
    fn release_at_end(&mut self) {
        if self.body.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(Lease { policy, target, connection, .. }) = self.lease.take() {
            policy.idle.put(target, connection);
        }
    }

    /// The connection cannot be used again.
    fn fail(&mut self, failure: &Failure) -> Error {
        self.lease = None;
        self.failed = true;
        self.report.failed(failure)
    }
}

impl Body for ResponseBody {
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
            return silent.map(|()| Some(Err(this.fail(&Failure::BetweenTime(this.between)))));
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
            None => return Poll::Ready(Some(Err(this.fail(&Failure::ResponseBytes(this.max))))),
        }
        this.release_at_end();
        Poll::Ready(Some(Ok(frame)))
    }
}
