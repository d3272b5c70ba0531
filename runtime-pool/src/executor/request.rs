//! What an executor is given: who calls, and with which request.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use crate::{error::Limit, outbound::CdnLoop};

/// A request on its way to a guest.
pub(crate) type Request = http::Request<RequestBody>;

/// What a guest's executor sends when the guest has decided on the head of its response; or the
/// guest's own error instead of one.
pub(crate) type Head = Result<http::Response<WasiBody>, String>;

/// Who calls, and by what address. Guests of the CGI kind are told.
#[derive(Clone, Debug)]
pub struct InvocationContext {
    /// Names the invocation in logs and answers.
    pub invocation: u128,
    /// The client's end of the connection.
    pub peer: SocketAddr,
    /// The part of the path that led to the function, without a slash at its end; may be empty.
    pub mount: Arc<str>,
    /// The gateways that the request has come through, if any.
    pub trail: Option<CdnLoop>,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client's part of the connection failed.
    #[error("the request's body broke off")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request's body is longer than it may be.
    #[error("the request's body is longer than {0} bytes")]
    RequestTooLarge(u64),
    /// The guest failed, or lied about the length, after the head of its response.
    #[error("the function's response broke off")]
    Function,
    /// The response hit a limit.
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

/// A request's body, streamed. Most requests have none, and those cost nothing.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// No body.
    #[default]
    Empty,
    /// Whatever the client sends.
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
