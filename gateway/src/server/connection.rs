//! What one connection is doing, and when it has done nothing useful for too long.
//!
//! The protocol libraries' own timers leave silent clients, half a preface and idle HTTP/2
//! connections alone, and cost a timer for each request. Here each connection has one coarse
//! timer, and reading and answering only note the time.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{self, Instant},
};

/// What every HTTP/2 client sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Pause between two looks at a preface that has not arrived whole.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
}

/// Waits until it is clear what the client speaks. `None` when it says nothing, or not enough, in
/// time.
pub(super) async fn spoken(stream: &TcpStream, patience: Duration) -> Option<Spoken> {
    let look = async {
        let mut start = [0; PREFACE.len()];
        loop {
            let seen = stream.peek(&mut start).await.ok()?;
            match &start[..seen] {
                [] => return None,
                seen if !PREFACE.starts_with(seen) => return Some(Spoken::Http1),
                seen if seen.len() == PREFACE.len() => return Some(Spoken::Http2),
                // The bytes stay where they are, so that waiting for "readable" would spin.
                _ => time::sleep(PREFACE_PAUSE).await,
            }
        }
    };
    time::timeout(patience, look).await.ok().flatten()
}

/// Times in milliseconds since the connection began; 0 stands for never.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    in_flight: AtomicU64,
    /// When the last request ended.
    quiet_since: AtomicU64,
    /// When the first byte of a request came that is not complete yet.
    head_since: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            in_flight: AtomicU64::new(0),
            quiet_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        // One more, so that "at once" is not "never".
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX) + 1
    }

    fn bytes_arrived(&self) {
        if self.in_flight.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// How long the connection may go on as it is, or `None` when its time is over.
    fn patience(&self, spoken: Spoken, head: Duration, idle: Duration) -> Option<Duration> {
        if self.in_flight.load(Relaxed) > 0 {
            return Some(head.min(idle));
        }
        let left = |since: u64, limit: Duration| {
            limit.checked_sub(Duration::from_millis(self.now().saturating_sub(since)))
        };
        let quiet = left(self.quiet_since.load(Relaxed), idle)?;
        match (spoken, self.head_since.load(Relaxed)) {
            // What arrives on an idle HTTP/2 connection may be pings, which are no request.
            (Spoken::Http2, _) | (Spoken::Http1, 0) => Some(quiet),
            (Spoken::Http1, since) => left(since, head).map(|head| head.min(quiet)),
        }
    }

    /// Returns when the connection has done nothing useful for too long.
    pub(super) async fn over(&self, spoken: Spoken, head: Duration, idle: Duration) {
        // A connection may become slow right after it was looked at: never sleep past `head`.
        while let Some(patience) = self.patience(spoken, head, idle) {
            time::sleep(patience.min(head).max(PREFACE_PAUSE)).await;
        }
    }
}

/// A request that is being answered; its end is noted when this is dropped.
#[derive(Debug)]
struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.quiet_since.store(self.0.now(), Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A stream that notes when bytes arrive.
pub(super) struct Noted {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl Noted {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.bytes_arrived();
        }
        read
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The service of one connection: notes when requests begin and end.
pub(super) struct Answering<S> {
    pub(super) inner: S,
    pub(super) activity: Arc<Activity>,
}

impl<S, B> Service<Request<Incoming>> for Answering<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<Answered<B>>;
    type Error = S::Error;
    type Future = AnsweringFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = self.activity.begin();
        AnsweringFuture { answer: self.inner.call(request), in_flight: Some(in_flight) }
    }
}

pin_project! {
    /// The future of one answer.
    pub(super) struct AnsweringFuture<F> {
        #[pin]
        answer: F,
        in_flight: Option<InFlight>,
    }
}

impl<F, B, E> Future for AnsweringFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Answered<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let in_flight = this.in_flight;
        this.answer
            .poll(cx)
            .map_ok(|response| response.map(|body| Answered { body, _in_flight: in_flight.take() }))
    }
}

pin_project! {
    /// A body that is part of a request until it has ended or was dropped.
    pub(super) struct Answered<B> {
        #[pin]
        body: B,
        _in_flight: Option<InFlight>,
    }
}

impl<B: Body> Body for Answered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    /// A connection that began so long ago.
    fn aged(seconds: u64) -> Arc<Activity> {
        let began = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        Arc::new(Activity { began, ..Arc::into_inner(Activity::new()).unwrap() })
    }

    #[test]
    fn a_connection_without_a_request_has_its_idle_time() {
        assert!(aged(74).patience(Spoken::Http1, HEAD, IDLE).unwrap() <= Duration::from_secs(1));
        assert_eq!(aged(76).patience(Spoken::Http1, HEAD, IDLE), None);
    }

    #[test]
    fn a_connection_at_work_has_all_the_time_and_its_idle_time_afterwards() {
        let activity = aged(300);
        let request = activity.begin();
        assert!(activity.patience(Spoken::Http1, HEAD, IDLE).is_some());
        drop(request);
        assert!(activity.patience(Spoken::Http1, HEAD, IDLE).unwrap() > Duration::from_secs(70));
    }

    #[test]
    fn a_slow_head_has_its_own_time_but_pings_are_none() {
        let activity = aged(20);
        activity.bytes_arrived();
        assert!(activity.patience(Spoken::Http1, HEAD, IDLE).unwrap() <= HEAD);
        // As if those bytes had come at the beginning.
        activity.head_since.store(1, Relaxed);
        assert_eq!(activity.patience(Spoken::Http1, HEAD, IDLE), None);
        assert!(activity.patience(Spoken::Http2, HEAD, IDLE).is_some());
    }
}
