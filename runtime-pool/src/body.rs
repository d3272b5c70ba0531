//! Bodies on their way to a guest and from it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::{sync::oneshot, task::AbortHandle};
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use crate::{error::Limit, guest_log::FunctionLog, metrics::PoolMetrics, run::Run};

/// Small writes are merged up to this many bytes before they leave: the protocol layers spend
/// hundreds of bytes on each frame, whatever its size.
const MERGE_BYTES: usize = 8 << 10;
/// Writes of nothing that a guest may make before it is taken for an attack.
const EMPTY_WRITES: u32 = 10_000;

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

/// A response's body.
#[derive(Debug)]
pub struct ResponseBody(Inner);

#[derive(Debug)]
enum Inner {
    Full(Bytes),
    Stream(Box<Streaming>),
}

/// A body whose guest still works.
#[derive(Debug)]
pub(crate) struct Streaming {
    pub(crate) head: BytesMut,
    pub(crate) rest: Limited,
    pub(crate) guest: GuestTask,
    pub(crate) cut: Cut,
}

/// Says that a response broke off after its head was sent.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) metrics: PoolMetrics,
    pub(crate) log: Arc<FunctionLog>,
    pub(crate) invocation: u128,
}

impl Cut {
    fn record(&self, error: &BodyError) {
        self.metrics.responses_cut.inc();
        if let BodyError::Limit(limit) = error {
            self.metrics.limit_hit(*limit);
            self.log.system(self.invocation, &error.to_string());
        }
    }
}

/// The task in which a guest goes on after the head of its response.
#[derive(Debug)]
pub(crate) struct GuestTask {
    pub(crate) abort: AbortHandle,
    /// Tells the task that the body has reached its end.
    pub(crate) ended: Option<oneshot::Sender<()>>,
}

impl Drop for GuestTask {
    fn drop(&mut self) {
        // Somebody still holds the end: the client has left, or the response was cut, and nobody
        // wants the rest. Otherwise the task gives the guest a moment and then ends itself.
        if self.ended.is_some() {
            self.abort.abort();
        }
    }
}

impl ResponseBody {
    /// A body that is there already.
    pub fn full(bytes: Bytes) -> Self {
        Self(Inner::Full(bytes))
    }

    pub(crate) fn streaming(streaming: Streaming) -> Self {
        Self(Inner::Stream(Box::new(streaming)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Inner::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Stream(streaming) => streaming.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Inner::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(_) => SizeHint::default(),
        }
    }
}

impl Streaming {
    /// Merges what is there up to [`MERGE_BYTES`], but never waits with something in hand.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while self.head.len() < MERGE_BYTES && self.guest.ended.is_some() {
            match self.rest.poll_frame(cx) {
                Poll::Pending if self.head.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(None) => self.end(),
                Poll::Ready(Some(Err(error))) => {
                    self.cut.record(&error);
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if self.head.is_empty() && data.len() >= MERGE_BYTES => {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Ok(data) => self.head.extend_from_slice(&data),
                    Err(trailers) => {
                        self.rest.keep_trailers(trailers);
                        self.end();
                    }
                },
            }
        }
        if !self.head.is_empty() {
            let data = self.head.split().freeze();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(self.rest.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn end(&mut self) {
        if let Some(ended) = self.guest.ended.take() {
            // The task may have ended first, with the guest.
            let _ = ended.send(());
        }
    }
}

/// A guest's body as it comes, with its limits and its claims checked.
#[derive(Debug)]
pub(crate) struct Limited {
    body: WasiBody,
    left: u64,
    /// What the guest's `content-length` still promises.
    promised: Option<u64>,
    empty_writes: u32,
    trailers: Option<http::HeaderMap>,
    run: Arc<Run>,
}

impl Limited {
    pub(crate) fn new(body: WasiBody, promised: Option<u64>, max: u64, run: Arc<Run>) -> Self {
        Self { body, left: max, promised, empty_writes: 0, trailers: None, run }
    }

    /// The next frame that is not empty. An end is the end only if the guest meant it.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let checked = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.data_ref().map(Bytes::len) {
                    Some(0) => match self.count_empty_write() {
                        Ok(()) => continue,
                        Err(error) => Err(error),
                    },
                    Some(len) => self.count(len as u64).map(|()| frame),
                    None => self.check_end().map(|()| frame),
                },
                Some(Err(_)) => Err(BodyError::Function),
                None => match self.check_end() {
                    Ok(()) => return Poll::Ready(None),
                    Err(error) => Err(error),
                },
            };
            return Poll::Ready(Some(checked));
        }
    }

    /// Trailers leave after the data that was collected before them.
    pub(crate) fn keep_trailers(&mut self, frame: Frame<Bytes>) {
        self.trailers = frame.into_trailers().ok();
    }

    fn count(&mut self, len: u64) -> Result<(), BodyError> {
        self.left = self.left.checked_sub(len).ok_or(BodyError::Limit(Limit::ResponseBytes))?;
        if let Some(promised) = &mut self.promised {
            *promised = promised.checked_sub(len).ok_or(BodyError::Function)?;
        }
        Ok(())
    }

    fn count_empty_write(&mut self) -> Result<(), BodyError> {
        self.empty_writes += 1;
        if self.empty_writes > EMPTY_WRITES {
            Err(BodyError::Limit(Limit::EmptyWrites))
        } else {
            Ok(())
        }
    }

    fn check_end(&self) -> Result<(), BodyError> {
        if self.run.outcome.failed() || self.promised.is_some_and(|left| left > 0) {
            Err(BodyError::Function)
        } else {
            Ok(())
        }
    }
}
