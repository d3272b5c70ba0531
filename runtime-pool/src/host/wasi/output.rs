//! The output streams that guests see: what they write goes to their log.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError},
};

use crate::{
    engine::cpu_meter::{host_must_yield, note_host_work},
    limits::GuestLimits,
    metrics::guest_log::{InvocationLog, LogStream},
};

/// Bytes of one write. A guest may write lines of nothing, and each of them is work.
const WRITE_BYTES: usize = 16 << 10;

/// One of the two output streams of a guest.
#[derive(Clone)]
pub(crate) struct GuestOutput {
    log: Arc<InvocationLog>,
    stream: LogStream,
    write_bytes: usize,
    tick: Duration,
}

impl GuestOutput {
    pub(crate) fn new(log: &Arc<InvocationLog>, stream: LogStream, limits: &GuestLimits) -> Self {
        let write_bytes = WRITE_BYTES.min(limits.body_chunk_bytes);
        Self { log: Arc::clone(log), stream, write_bytes, tick: limits.tick }
    }

    fn take(&self, bytes: &[u8]) {
        note_host_work(bytes.len());
        self.log.write(self.stream, bytes);
    }

    /// Pending once the guest has written for as long as it may keep a thread to itself. It goes on
    /// in its next poll.
    fn poll_turn(&self, cx: &Context<'_>) -> Poll<()> {
        if host_must_yield(self.tick) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.poll_turn(cx)).await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(self.write_bytes)
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        let taken = bytes.len().min(self.write_bytes);
        self.take(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
