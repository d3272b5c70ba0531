//! A connection's bytes on their way to the protocol library: looked at before it sees them.

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
    time::{self, Sleep},
};

use crate::server::{
    activity::Activity,
    h1::{
        framing::HeadLimits,
        requests::{RequestTracker, Rest},
    },
    h2::control_frames::{CALM, ControlFrames},
    metrics::End,
};

/// What the library is given in place of a request that is refused: one that it understands, the
/// connection's last. The answer comes after those to the requests before it.
const REFUSED: &[u8] = b"REFUSED / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// How it is known. Somebody else who sends it before something that is refused is told the same.
pub(crate) const REFUSED_METHOD: &str = "REFUSED";
/// After an answer to half a request, what else the client sends is taken for so long, and so much
/// of it: closing at once would make its system throw the answer away.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;
/// Bytes that are taken at once to be thrown away or put back.
const SCRATCH_BYTES: usize = 4 << 10;

/// A stream whose bytes are looked at as they arrive.
pub(crate) struct InspectingIo<T> {
    stream: T,
    activity: Arc<Activity>,
    look: Look,
    /// Bytes to be read before those of the stream, from `ahead_at` on.
    ahead: Vec<u8>,
    ahead_at: usize,
    /// Nothing more of the stream is passed on.
    deaf: bool,
    /// The body that is being read has no end that could be known.
    broken: Option<&'static str>,
    linger: Option<(Pin<Box<Sleep>>, usize)>,
}

enum Look {
    Http1 {
        requests: RequestTracker,
        /// The beginning of a head.
        held: Vec<u8>,
    },
    Http2(ControlFrames),
}

impl<T> InspectingIo<T> {
    pub(crate) fn http1(stream: T, activity: Arc<Activity>, limits: HeadLimits) -> Self {
        let look = Look::Http1 { requests: RequestTracker::new(limits), held: Vec::new() };
        Self::new(stream, activity, look)
    }

    pub(crate) fn http2(stream: T, activity: Arc<Activity>, control_frames: u64) -> Self {
        Self::new(stream, activity, Look::Http2(ControlFrames::new(control_frames)))
    }

    fn new(stream: T, activity: Arc<Activity>, look: Look) -> Self {
        let ahead = Vec::new();
        Self { stream, activity, look, ahead, ahead_at: 0, deaf: false, broken: None, linger: None }
    }

    /// Nobody has looked at these, which were passed on.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.ahead.splice(..self.ahead_at, bytes.iter().copied());
        self.ahead_at = 0;
    }

    /// Decides about the bytes of `buf` from `before` on, which have just arrived.
    fn arrived(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        match &mut self.look {
            Look::Http2(frames) => {
                let activity = &self.activity;
                if let Some(rest) = frames.look(&buf.filled()[before..], || activity.now()) {
                    buf.set_filled(before + rest.start);
                    self.ahead.extend_from_slice(&CALM);
                    self.deaf = true;
                    self.activity.end(End::ControlFrames);
                }
            }
            Look::Http1 { requests, held } => {
                let had = held.len();
                let seen = if had == 0 {
                    let seen = requests.look(&buf.filled()[before..]);
                    if seen.rest == Rest::Wait {
                        held.extend_from_slice(&buf.filled()[before + seen.pass..]);
                    }
                    buf.set_filled(before + seen.pass);
                    seen
                } else {
                    held.extend_from_slice(&buf.filled()[before..]);
                    buf.set_filled(before);
                    if !requests.worth_a_look(held, had) {
                        return;
                    }
                    let seen = requests.look(held);
                    self.ahead.extend(held.drain(..seen.pass));
                    seen
                };
                match seen.rest {
                    Rest::Wait => self.activity.head_waits(!held.is_empty()),
                    Rest::Refuse(refused) => {
                        self.ahead.extend_from_slice(REFUSED);
                        self.deaf = true;
                        self.activity.refuse(refused);
                    }
                    Rest::Broken(wrong) => self.broken = Some(wrong),
                }
            }
        }
    }

    /// Whether the client is in the middle of something that will not be read.
    pub(crate) fn is_interrupted(&self) -> bool {
        match &self.look {
            Look::Http1 { requests, .. } => self.deaf || !requests.between(),
            Look::Http2(_) => self.deaf,
        }
    }
}

impl<T: AsyncRead + Unpin> InspectingIo<T> {
    /// Returns when there is something to read, and whether there is; else it was the end. Takes
    /// no memory while nothing arrives.
    pub(crate) async fn has_something(&mut self) -> io::Result<bool> {
        poll_fn(|cx| {
            let mut scratch = [0; SCRATCH_BYTES];
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *self).poll_read(cx, &mut buf))?;
            self.put_back(buf.filled());
            Poll::Ready(Ok(!buf.filled().is_empty()))
        })
        .await
    }

    /// Takes what arrives and throws it away. Ready at the end of the stream.
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
            if this.deaf {
                let mut left = LINGER_BYTES;
                // Who sends nothing more may still be reading: the answer ends the connection.
                let _ = this.poll_discard(cx, &mut left);
                return Poll::Pending;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.arrived(buf, before);
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
        self.activity.writes(written.is_ready());
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
        self.activity.writes(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
