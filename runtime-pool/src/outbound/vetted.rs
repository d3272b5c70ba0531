//! Requests that the gateway itself makes to a URL which an owner has named: the keys of an issuer,
//! a callback. They go the way of guests' requests, so that an owner reaches nothing through the
//! gateway that a function could not reach.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};
use wasmtime_wasi_http::RequestOptions;

use super::{
    cdn_loop::CdnLoop,
    client::OutboundClient,
    connection::{StepTimeouts, UpstreamConnection},
    failure::OutboundFailure,
    framing::framed,
    policy::{Policy, PolicySettings},
    rules::target::{self, Target},
};

/// Requests of one client at once. Further ones wait, within their time.
const AT_ONCE: usize = 64;

/// Sends the gateway's own requests, by the rules of guests' requests: the resolver, the addresses
/// that may be called, the trusted authorities and the limits of [`OutboundConfig`]. It follows no
/// redirect, adds no credential and keeps no connection.
///
/// [`OutboundConfig`]: super::OutboundConfig
#[derive(Clone)]
pub struct VettedClient {
    policy: Arc<Policy>,
    at_once: Arc<Semaphore>,
    purpose: &'static str,
}

/// A request of the gateway itself.
#[derive(Clone, Debug)]
pub struct VettedRequest {
    /// Any method but CONNECT.
    pub method: Method,
    /// An address of the scheme `http` or `https`. A caller that wants TLS checks the scheme.
    pub uri: Uri,
    /// Fields that belong to the connection, such as `host`, are dropped.
    pub headers: HeaderMap,
    /// The whole body. The caller limits its length.
    pub body: Bytes,
    /// The gateways that the cause of this request has passed.
    pub cdn_loop: Option<CdnLoop>,
    /// Time for everything, from the name to the last byte of the answer.
    pub within: Duration,
    /// Bytes of the answer's body that are kept.
    pub answer_bytes: usize,
}

impl VettedRequest {
    /// A GET without fields.
    #[must_use]
    pub fn get(uri: Uri, within: Duration, answer_bytes: usize) -> Self {
        let (method, headers, body) = (Method::GET, HeaderMap::new(), Bytes::new());
        Self { method, uri, headers, body, cdn_loop: None, within, answer_bytes }
    }
}

/// The answer of a server, whatever its status.
#[derive(Clone, Debug)]
pub struct VettedAnswer {
    /// Redirects are not followed: they are answers like others.
    pub status: StatusCode,
    /// The fields of the head.
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Bytes,
    /// Whether the body was longer than the bytes that are kept.
    pub truncated: bool,
}

/// Why there is no answer. An owner may see it: it does not tell a port that is closed, filtered or
/// forbidden from a name that does not exist. The gateway's log has the cause, at the level `debug`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VettedError {
    /// The URL or the method cannot be used, wherever the name leads.
    #[error("the address is not one of an http or https server")]
    Address,
    /// There is no connection: the name, the address, the port, the policy or TLS.
    #[error("the server cannot be reached")]
    Unreachable,
    /// A connection was made, and the answer did not arrive in time, whole or as valid HTTP.
    #[error("the server gave no whole answer in time")]
    NoAnswer,
}

impl VettedClient {
    /// `purpose` is the label in metrics.
    pub(crate) fn new(client: Arc<OutboundClient>, purpose: &'static str) -> Self {
        let policy = Arc::new(Policy::new(client, PolicySettings::default()));
        Self { policy, at_once: Arc::new(Semaphore::new(AT_ONCE)), purpose }
    }

    /// Sends one request and collects its answer.
    ///
    /// # Errors
    ///
    /// If no answer arrives: see [`VettedError`].
    pub async fn send(&self, request: VettedRequest) -> Result<VettedAnswer, VettedError> {
        let uri = request.uri.clone();
        let sent = self.send_within(request).await;
        let outcome = match &sent {
            Ok(_) => "ok",
            Err((_, failure)) => failure.outcome(),
        };
        self.policy.client.metrics.outbound.count_own(self.purpose, outcome);
        sent.map_err(|(error, failure)| {
            tracing::debug!(purpose = self.purpose, %uri, %failure, "a request of ours failed");
            error
        })
    }

    async fn send_within(
        &self,
        request: VettedRequest,
    ) -> Result<VettedAnswer, (VettedError, OutboundFailure)> {
        let within = request.within;
        let target =
            Target::of(&request.uri).ok_or((VettedError::Address, OutboundFailure::Address))?;
        if !target::is_method(&request.method) {
            return Err((VettedError::Address, OutboundFailure::Method));
        }
        // The gateway calls functions itself, and the name is nothing to a name server.
        if target.function().is_some() {
            return Err((VettedError::Address, OutboundFailure::FunctionAddress));
        }
        let deadline = Instant::now() + within;
        let times = StepTimeouts::of(&self.policy.client.config, &RequestOptions::default());
        let _permit = time::timeout_at(deadline, self.at_once.acquire())
            .await
            .map_err(|_| (VettedError::Unreachable, OutboundFailure::ConnectTime(within)))?
            .expect("the semaphore is never closed");
        let connected = self.connect(&target, &times);
        let connection = time::timeout_at(deadline, connected)
            .await
            .unwrap_or(Err(OutboundFailure::ConnectTime(within)))
            .map_err(|failure| (VettedError::Unreachable, failure))?;
        let answered = self.exchange_once(request, &target, connection, &times);
        time::timeout_at(deadline, answered)
            .await
            .unwrap_or(Err(OutboundFailure::FirstByteTime(within)))
            .map_err(|failure| (VettedError::NoAnswer, failure))
    }

    async fn connect(
        &self,
        target: &Target,
        times: &StepTimeouts,
    ) -> Result<UpstreamConnection, OutboundFailure> {
        let policy = &self.policy;
        policy.client.connect(target, &policy.lookups, || policy.tls(), times).await
    }

    /// Uses a connection for one request: two owners never share one.
    async fn exchange_once(
        &self,
        request: VettedRequest,
        target: &Target,
        mut connection: UpstreamConnection,
        times: &StepTimeouts,
    ) -> Result<VettedAnswer, OutboundFailure> {
        let VettedRequest { method, uri, mut headers, body, cdn_loop, answer_bytes, .. } = request;
        let forbidden = &self.policy.client.forbidden_headers;
        let dropped: Vec<_> = headers.keys().filter(|name| forbidden(name)).cloned().collect();
        for name in dropped {
            headers.remove(name);
        }
        let body = Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync();
        let mut whole = http::Request::new(body);
        (*whole.method_mut(), *whole.uri_mut(), *whole.headers_mut()) = (method, uri, headers);
        let whole = framed(self.policy.prepare(whole, target, cdn_loop.as_ref())?).await?;
        let sent = connection.sender.send_request(whole);
        let response = time::timeout(times.first_byte, sent)
            .await
            .map_err(|_| OutboundFailure::FirstByteTime(times.first_byte))??;
        if response.status().is_informational() {
            return Err(OutboundFailure::Upgrade(response.status()));
        }
        let (parts, body) = response.into_parts();
        let (body, truncated) = collected(body, answer_bytes, times.between_bytes).await?;
        Ok(VettedAnswer { status: parts.status, headers: parts.headers, body, truncated })
    }
}

/// At most `most` bytes of a body, and whether there were more. The rest is not read.
async fn collected(
    mut body: Incoming,
    most: usize,
    between: Duration,
) -> Result<(Bytes, bool), OutboundFailure> {
    let mut kept = BytesMut::new();
    loop {
        let frame = time::timeout(between, body.frame())
            .await
            .map_err(|_| OutboundFailure::BetweenTime(between))?;
        let Some(frame) = frame else { return Ok((kept.freeze(), false)) };
        let Ok(data) = frame?.into_data() else { continue };
        let room = most - kept.len();
        if data.len() > room {
            kept.extend_from_slice(&data[..room]);
            return Ok((kept.freeze(), true));
        }
        kept.extend_from_slice(&data);
    }
}
