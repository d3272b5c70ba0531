//! Inspects the bytes of a connection before the protocol library reads them.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::{self, Sleep},
};

use tokio_rustls::server::TlsStream;

use crate::server::{
    activity::Activity,
    h1::{
        framing::{HeadLimits, with_encoded_target},
        requests::{Remainder, RequestTracker},
    },
    h2::control_frames::{ControlFrames, ENHANCE_YOUR_CALM},
    metrics::CloseReason,
};

/// The library reads this in place of a rejected request: a valid request, the connection's last.
/// Its response then comes after the responses to the requests before it.
const REJECTED: &[u8] = b"REFUSED / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// The method of that request. A client that sends this method itself, before a request that is
/// rejected, gets the same response.
pub(crate) const REJECTED_METHOD: &str = "REFUSED";
/// After a response to an incomplete request, the gateway reads and discards what the client still
/// sends, for so long and so many bytes: closing at once would make the client's system discard
/// the response.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;
/// Bytes that are read at once to be discarded or unread.
const SCRATCH_BYTES: usize = 4 << 10;

/// A stream whose bytes are inspected as they arrive.
pub(crate) struct InspectingIo<T> {
    stream: T,
    activity: Arc<Activity>,
    inspector: Inspector,
    /// Bytes to be read before those of the stream, from `ahead_at` on.
    ahead: Vec<u8>,
    ahead_at: usize,
    /// Whether the stream's bytes are discarded.
    discarding: bool,
    /// Why the end of the current body cannot be found, if so.
    broken: Option<&'static str>,
    linger: Option<(Pin<Box<Sleep>>, usize)>,
    /// How long the answer to a client that has stopped sending may take, and when that time ends.
    half_close: Duration,
    half_closed: Option<Pin<Box<Sleep>>>,
    /// Resets the connection when it is closed.
    reset: fn(&T),
}

/// A connection that can be ended so that the client sees an error.
pub(crate) trait Reset {
    /// Makes the system send a reset when the connection is closed, and not a regular end.
    fn reset(&self);
}

impl Reset for TcpStream {
    fn reset(&self) {
        // Where that fails, the client sees a regular end: there is nothing else to try.
        let _ = self.set_zero_linger();
    }
}

impl Reset for UnixStream {
    fn reset(&self) {
        // Sockets of this kind have no reset. Only the control plane has one, and its answers tell
        // their length.
    }
}

impl Reset for TlsStream<TcpStream> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

impl<T> Drop for InspectingIo<T> {
    fn drop(&mut self) {
        // Nothing else would tell the client that the response has broken off.
        if self.activity.is_open_ended() {
            (self.reset)(&self.stream);
        }
    }
}

enum Inspector {
    Http1 {
        requests: RequestTracker,
        /// An incomplete head.
        head: Vec<u8>,
    },
    Http2(ControlFrames),
}

impl<T> InspectingIo<T> {
    pub(crate) fn http1(
        stream: T,
        activity: Arc<Activity>,
        limits: HeadLimits,
        half_close: Duration,
        reset: fn(&T),
    ) -> Self {
        let inspector =
            Inspector::Http1 { requests: RequestTracker::new(limits), head: Vec::new() };
        let mut io = Self::new(stream, activity, inspector, reset);
        io.half_close = half_close;
        io
    }

    pub(crate) fn http2(stream: T, activity: Arc<Activity>, control_frames: u64) -> Self {
        // A broken stream is reset by a frame.
        Self::new(stream, activity, Inspector::Http2(ControlFrames::new(control_frames)), |_| {})
    }

    fn new(stream: T, activity: Arc<Activity>, inspector: Inspector, reset: fn(&T)) -> Self {
        Self {
            stream,
            activity,
            inspector,
            ahead: Vec::new(),
            ahead_at: 0,
            discarding: false,
            broken: None,
            linger: None,
            half_close: Duration::ZERO,
            half_closed: None,
            reset,
        }
    }

    /// Takes back bytes that were passed on but not processed.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        self.ahead.splice(..self.ahead_at, bytes.iter().copied());
        self.ahead_at = 0;
    }

    /// Inspects the bytes of `buf` from `before` on, which have just arrived.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        match &mut self.inspector {
            Inspector::Http2(frames) => {
                let activity = &self.activity;
                activity.hears();
                if let Some(excess) = frames.inspect(&buf.filled()[before..], || activity.now()) {
                    buf.set_filled(before + excess.start);
                    self.ahead.extend_from_slice(&ENHANCE_YOUR_CALM);
                    self.discarding = true;
                    self.activity.close(CloseReason::ControlFrames);
                }
            }
            Inspector::Http1 { requests, head } => {
                let had = head.len();
                let inspected = if had == 0 {
                    let inspected = requests.inspect(&buf.filled()[before..]);
                    let is_incomplete = inspected.remainder == Remainder::Incomplete;
                    if is_incomplete || matches!(inspected.remainder, Remainder::Unencoded(_)) {
                        head.extend_from_slice(&buf.filled()[before + inspected.pass..]);
                    }
                    buf.set_filled(before + inspected.pass);
                    inspected
                } else {
                    head.extend_from_slice(&buf.filled()[before..]);
                    buf.set_filled(before);
                    if !requests.should_inspect(head, had) {
                        return;
                    }
                    let inspected = requests.inspect(head);
                    self.ahead.extend(head.drain(..inspected.pass));
                    inspected
                };
                let mut remainder = inspected.remainder;
                while let Remainder::Unencoded(bytes) = remainder {
                    self.ahead.extend(with_encoded_target(&head[..bytes]));
                    head.drain(..bytes);
                    let inspected = requests.inspect(head);
                    self.ahead.extend(head.drain(..inspected.pass));
                    remainder = inspected.remainder;
                }
                match remainder {
                    // Its loop has just ended.
                    Remainder::Unencoded(_) => {}
                    Remainder::Incomplete => self.activity.head_is_incomplete(!head.is_empty()),
                    Remainder::Rejected(rejection) => {
                        self.ahead.extend_from_slice(REJECTED);
                        self.discarding = true;
                        self.activity.reject(rejection);
                    }
                    Remainder::Broken(wrong) => self.broken = Some(wrong),
                }
            }
        }
    }

    /// Whether the client may be sending bytes that will not be read.
    pub(crate) fn is_interrupted(&self) -> bool {
        match &self.inspector {
            Inspector::Http1 { requests, .. } => self.discarding || !requests.is_between_requests(),
            Inspector::Http2(_) => self.discarding,
        }
    }
}

impl<T: AsyncRead + Unpin> InspectingIo<T> {
    /// Waits for bytes to read. Whether there are any: otherwise the stream has ended. Uses no
    /// buffer while it waits.
    pub(crate) async fn readable(&mut self) -> io::Result<bool> {
        poll_fn(|cx| {
            let mut scratch = [0; SCRATCH_BYTES];
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *self).poll_read(cx, &mut buf))?;
            self.unread(buf.filled());
            Poll::Ready(Ok(!buf.filled().is_empty()))
        })
        .await
    }

    /// Ready when the end of the stream is to be passed on: the library drops a request in progress
    /// then, though its client may only have stopped sending.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_answer_due = !self.is_interrupted() && self.activity.is_serving();
        if self.half_close.is_zero() || !is_answer_due {
            return Poll::Ready(());
        }
        let half_close = self.half_close;
        let timer = self.half_closed.get_or_insert_with(|| Box::pin(time::sleep(half_close)));
        timer.as_mut().poll(cx)
    }

    /// Reads and discards what arrives. Ready at the end of the stream.
    fn poll_discard(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        let mut scratch = [0; SCRATCH_BYTES];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf));
            let bytes = buf.filled().len();
            if read.is_err() || bytes == 0 || *left < bytes {
                return Poll::Ready(());
            }
            *left -= bytes;
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for InspectingIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.ahead_at < this.ahead.len() {
                let ahead = &this.ahead[this.ahead_at..];
                let here = ahead.len().min(buf.remaining());
                buf.put_slice(&ahead[..here]);
                this.ahead_at += here;
                if this.ahead_at == this.ahead.len() {
                    (this.ahead, this.ahead_at) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(()));
            }
            if let Some(wrong) = this.broken {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, wrong)));
            }
            if this.discarding {
                let mut left = LINGER_BYTES;
                // A client that has stopped sending may still read: the response ends the
                // connection.
                let _ = this.poll_discard(cx, &mut left);
                return Poll::Pending;
            }
            let before = buf.filled().len();
            if this.half_closed.is_none() {
                ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            }
            if buf.filled().len() == before {
                return this.poll_end(cx).map(Ok);
            }
            this.inspect(buf, before);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for InspectingIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.activity.written(written.is_ready());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        if !this.is_interrupted() {
            return Poll::Ready(Ok(()));
        }
        let linger = this.linger.take();
        let (mut timer, mut left) =
            linger.unwrap_or_else(|| (Box::pin(time::sleep(LINGER)), LINGER_BYTES));
        if this.poll_discard(cx, &mut left).is_ready() || timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        this.linger = Some((timer, left));
        Poll::Pending
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.activity.written(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
