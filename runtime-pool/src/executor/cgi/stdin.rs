//! The standard input of a command: the body of its request.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Body as _;
use tokio::io::{AsyncRead, ReadBuf};
use wasmtime_wasi::{
    cli::{IsTerminal, StdinStream},
    p2::{InputStream, Pollable, StreamError},
};

use crate::executor::request::RequestBody;

/// Standard input. All streams that a guest opens read from the same one.
#[derive(Clone)]
pub(super) struct Stdin(Arc<Mutex<BodyReader>>);

struct BodyReader {
    body: RequestBody,
    chunk: Bytes,
    ended: bool,
    error: Option<String>,
}

impl Stdin {
    pub(super) fn new(body: RequestBody) -> Self {
        let input = BodyReader { body, chunk: Bytes::new(), ended: false, error: None };
        Self(Arc::new(Mutex::new(input)))
    }

    fn lock(&self) -> MutexGuard<'_, BodyReader> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BodyReader {
    /// Ready as soon as there are bytes, the end or an error.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.chunk.is_empty() && !self.ended && self.error.is_none() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => self.error = Some(error.to_string()),
                None => self.ended = true,
            }
        }
        Poll::Ready(())
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut input = self.lock();
        std::task::ready!(input.poll_ready(cx));
        if let Some(error) = &input.error {
            return Poll::Ready(Err(io::Error::other(error.clone())));
        }
        let length = buffer.remaining().min(input.chunk.len());
        buffer.put_slice(&input.chunk.split_to(length));
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.lock().poll_ready(cx)).await;
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        let mut input = self.lock();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        if input.poll_ready(&mut cx).is_pending() {
            return Ok(Bytes::new());
        }
        if let Some(error) = &input.error {
            return Err(StreamError::LastOperationFailed(wasmtime::Error::msg(error.clone())));
        }
        if input.chunk.is_empty() {
            return Err(StreamError::Closed);
        }
        let length = size.min(input.chunk.len());
        Ok(input.chunk.split_to(length))
    }
}
