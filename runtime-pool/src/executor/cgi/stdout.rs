//! The standard output of a command: the head of its response, then the body.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::{
    io::AsyncWrite,
    sync::{Notify, oneshot},
};
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError},
};
use wasmtime_wasi_http::Error as WasiError;

use crate::{
    InvokeError,
    executor::{
        cgi::head::{self, HeadEnd},
        request::ResponseHead,
    },
};

/// Standard output. All streams that a guest opens write to the same one.
#[derive(Clone)]
pub(super) struct Stdout {
    response: Arc<Mutex<CgiResponse>>,
    invalid: Arc<Notify>,
    chunk_bytes: usize,
}

/// The error that ends a command which writes on after a head that is none.
#[derive(Debug, thiserror::Error)]
#[error("the output is no response")]
pub(super) struct InvalidOutput;

enum CgiResponse {
    /// The head is not complete yet.
    Head { bytes: BytesMut, end: HeadEnd, head: oneshot::Sender<ResponseHead> },
    /// The head was sent, and what the command writes is the body.
    Body(PipeWriter),
    /// The command's output is no response.
    Invalid(String),
    /// The command has ended.
    Closed,
}

impl Stdout {
    pub(super) fn new(head: oneshot::Sender<ResponseHead>, chunk_bytes: usize) -> Self {
        let (bytes, end) = (BytesMut::new(), HeadEnd::default());
        let response = CgiResponse::Head { bytes, end, head };
        Self { response: Arc::new(Mutex::new(response)), invalid: Arc::default(), chunk_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, CgiResponse> {
        self.response.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the body. An error if the command has written no response.
    pub(super) fn close(&self) -> Result<(), InvokeError> {
        match std::mem::replace(&mut *self.lock(), CgiResponse::Closed) {
            CgiResponse::Body(_) | CgiResponse::Closed => Ok(()),
            CgiResponse::Invalid(why) => Err(InvokeError::NoResponse(why)),
            CgiResponse::Head { bytes, .. } if bytes.is_empty() => {
                Err(InvokeError::NoResponse("it wrote nothing to standard output".into()))
            }
            CgiResponse::Head { .. } => Err(InvokeError::NoResponse(
                "the empty line after the header lines is missing".into(),
            )),
        }
    }

    /// Whether the command's output is no response, so that nothing it writes matters.
    pub(super) fn is_invalid(&self) -> bool {
        matches!(*self.lock(), CgiResponse::Invalid(_))
    }

    /// Completes when the command's output is no response.
    pub(super) async fn becomes_invalid(&self) {
        self.invalid.notified().await;
    }

    /// Takes the command's output.
    fn accept(&self, data: &[u8]) {
        let mut response = self.lock();
        *response = match std::mem::replace(&mut *response, CgiResponse::Closed) {
            CgiResponse::Head { mut bytes, end, head } => {
                bytes.extend_from_slice(data);
                after_head(bytes, end, head, self.chunk_bytes)
            }
            CgiResponse::Body(writer) => {
                writer.write(data);
                CgiResponse::Body(writer)
            }
            other @ (CgiResponse::Invalid(_) | CgiResponse::Closed) => other,
        };
        if matches!(*response, CgiResponse::Invalid(_)) {
            self.invalid.notify_one();
        }
    }

    fn poll_space(&self, cx: &mut Context<'_>) -> Poll<usize> {
        match &*self.lock() {
            CgiResponse::Body(writer) => writer.poll_space(cx),
            CgiResponse::Head { .. } | CgiResponse::Invalid(_) | CgiResponse::Closed => {
                Poll::Ready(self.chunk_bytes)
            }
        }
    }
}

fn after_head(
    bytes: BytesMut,
    mut end: HeadEnd,
    head: oneshot::Sender<ResponseHead>,
    chunk_bytes: usize,
) -> CgiResponse {
    let Some((length, empty_line)) = end.find(&bytes) else {
        return if bytes.len() > head::HEAD_BYTES {
            too_long()
        } else {
            CgiResponse::Head { bytes, end, head }
        };
    };
    if length > head::HEAD_BYTES {
        return too_long();
    }
    let parsed = match head::parse(&bytes[..length]) {
        Ok(parsed) => parsed,
        Err(why) => return CgiResponse::Invalid(why),
    };
    let pipe = Arc::new(StdoutPipe::new(chunk_bytes));
    let (writer, reader) = (PipeWriter(Arc::clone(&pipe)), PipeReader(pipe));
    writer.write(&bytes[length + empty_line..]);
    let mut response = http::Response::new(reader.boxed_unsync());
    *response.status_mut() = parsed.status;
    *response.headers_mut() = parsed.headers;
    // There is no receiver if the client has left.
    let _ = head.send(Ok(response));
    CgiResponse::Body(writer)
}

fn too_long() -> CgiResponse {
    CgiResponse::Invalid(format!("its header is longer than {} bytes", head::HEAD_BYTES))
}

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdout {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdout {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.poll_space(cx)).await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Stdout {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.accept(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        match &*self.lock() {
            CgiResponse::Body(writer) => Ok(writer.space()),
            CgiResponse::Head { .. } | CgiResponse::Closed => Ok(self.chunk_bytes),
            CgiResponse::Invalid(_) => Err(StreamError::Trap(InvalidOutput.into())),
        }
    }
}

impl AsyncWrite for Stdout {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_invalid() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.poll_space(cx).map(|space| {
            let taken = bytes.len().min(space);
            self.accept(&bytes[..taken]);
            Ok(taken)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A byte pipe that merges small writes.
struct StdoutPipe {
    /// Bytes that may wait for the reader.
    chunk_bytes: usize,
    state: Mutex<PipeState>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

#[derive(Default)]
struct PipeState {
    bytes: BytesMut,
    closed: bool,
}

impl StdoutPipe {
    fn new(chunk_bytes: usize) -> Self {
        Self {
            chunk_bytes,
            state: Mutex::default(),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct PipeWriter(Arc<StdoutPipe>);

impl PipeWriter {
    fn write(&self, data: &[u8]) {
        if !data.is_empty() {
            self.0.lock().bytes.extend_from_slice(data);
            self.0.reader.wake();
        }
    }

    fn space(&self) -> usize {
        self.0.chunk_bytes.saturating_sub(self.0.lock().bytes.len())
    }

    fn poll_space(&self, cx: &mut Context<'_>) -> Poll<usize> {
        // Registered before the check: otherwise the reader could make space between the two, and
        // nothing would wake the task.
        self.0.writer.register(cx.waker());
        match self.space() {
            0 => Poll::Pending,
            space => Poll::Ready(space),
        }
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.reader.wake();
    }
}

struct PipeReader(Arc<StdoutPipe>);

impl Body for PipeReader {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        // Registered before the check, for the same reason as in `poll_space`.
        self.0.reader.register(cx.waker());
        let mut state = self.0.lock();
        if !state.bytes.is_empty() {
            let data = state.bytes.split().freeze();
            drop(state);
            self.0.writer.wake();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if state.closed { Poll::Ready(None) } else { Poll::Pending }
    }
}
