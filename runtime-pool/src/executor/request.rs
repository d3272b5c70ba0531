//! The input of an executor for an invocation: the caller and the request.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use crate::{error::Limit, outbound::CdnLoop};

/// The request for a guest.
pub(crate) type InvocationRequest = http::Request<RequestBody>;

/// The head of a response with its body, which an executor sends as soon as the guest has decided on
/// it; or the error that the guest has given instead.
pub(crate) type ResponseHead = Result<http::Response<WasiBody>, String>;

/// A call: the request, and who makes it. Passed on in a box, because it goes through many futures,
/// each of which would hold a copy.
#[derive(Debug)]
pub struct FunctionCall {
    /// The head of the request.
    pub head: http::request::Parts,
    /// The body of the request.
    pub body: RequestBody,
    /// The caller.
    pub context: InvocationContext,
}

impl FunctionCall {
    /// A call with this request.
    #[must_use]
    pub fn new(request: http::Request<RequestBody>, context: InvocationContext) -> Box<Self> {
        let (head, body) = request.into_parts();
        Box::new(Self { head, body, context })
    }
}

/// How a guest ended that has not failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuestEnd {
    /// It has returned.
    Returned,
    /// It has exited after its response was whole. Its instance cannot be used again.
    Exited,
}

/// The caller, and the address that it used. CGI guests see both in their environment.
#[derive(Clone, Debug)]
pub struct InvocationContext {
    /// Identifies the invocation in logs and responses.
    pub invocation: u128,
    /// The client's end of the connection.
    pub peer: SocketAddr,
    /// Whether the client speaks HTTPS: with the gateway, or with a trusted proxy that says so.
    pub https: bool,
    /// The part of the path that selected the function, without a slash at its end. May be empty.
    pub mount: Arc<str>,
    /// The gateways that the request has already passed, if any.
    pub cdn_loop: Option<CdnLoop>,
    /// The other calls of the same client that are in flight.
    pub others: usize,
    /// The time for the call, if it is less than the function's.
    pub timeout: Option<Duration>,
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection to the client failed.
    #[error("the request body ended early")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request body exceeds its limit.
    #[error("the request body is longer than {0} bytes")]
    RequestTooLarge(u64),
    /// The guest failed after the head of its response, or the body differs from its
    /// `content-length`.
    #[error("the function's response ended early")]
    Function,
    /// The response exceeds a limit.
    #[error("the function's response hit its limit: {}", .0.as_str())]
    Limit(Limit),
}

impl From<BodyError> for WasiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::RequestTooLarge(bytes) => Self::HttpRequestBodySize(Some(bytes)),
            BodyError::Client(_) | BodyError::Function | BodyError::Limit(_) => {
                Self::ConnectionTerminated
            }
        }
    }
}

/// The body of a request, as a stream. Most requests have none, which costs nothing.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// No body.
    #[default]
    Empty,
    /// The body that the client sends.
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(body) => body.size_hint(),
        }
    }
}
