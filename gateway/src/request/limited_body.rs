//! Bodies of requests, which must not be too large or too slow.

use std::{
    error::Error,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use gateway_api::FunctionLimit;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use runtime_pool::{BodyError, FunctionBody};
use tokio::time::{self, Instant, Sleep};

use crate::{
    config::MinRate,
    problem::{Problem, function_setting, table},
    request::forwarded,
    server::IncomingBody,
};

/// How long a call waits for the first bytes of a body whose length is not known: its client may be
/// waiting for the function to speak first.
const FIRST_BYTES: Duration = Duration::from_secs(1);

/// A fault in the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It is longer than this limit.
    TooLarge(u64),
    /// The client sent it more slowly than this minimum, in bytes per second.
    TooSlow(u64),
    /// It ended early, or its framing is invalid.
    Broken,
}

/// A request body that is larger than the function's limit of `max` bytes.
pub(crate) fn too_large(max: u64) -> Problem {
    Problem::new(&table::REQUEST_TOO_LARGE)
        .detail(format!("the limit is {max} bytes"))
        .hint(function_setting(FunctionLimit::RequestBytes))
}

impl From<BodyFault> for Problem {
    fn from(fault: BodyFault) -> Self {
        let problem = match fault {
            BodyFault::TooLarge(max) => too_large(max),
            BodyFault::TooSlow(bytes_per_s) => Self::new(&table::REQUEST_TOO_SLOW)
                .detail(format!("the minimum is {bytes_per_s} bytes per second"))
                .hint(
                    "Send faster. The operator can change the settings `server.body_rate_bytes` \
                     and `server.body_grace_ms`.",
                ),
            BodyFault::Broken => Self::new(&table::BAD_BODY)
                .detail("the body does not end as the head of the request says")
                .hint("Send the request again."),
        };
        problem.closes()
    }
}

/// Notes what is wrong with the body of a request, for the code that answers the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyFaults(Arc<OnceLock<BodyFault>>);

impl BodyFaults {
    /// The first fault, if there is one so far.
    pub(crate) fn first(&self) -> Option<BodyFault> {
        self.0.get().copied()
    }

    fn note(&self, fault: BodyFault) {
        // Only the first fault counts.
        let _ = self.0.set(fault);
    }
}

impl MinRate {
    /// How long the client may keep the gateway waiting for so many bytes in all.
    fn time_for(&self, bytes: u64) -> Duration {
        self.grace + Duration::from_millis(bytes.saturating_mul(1_000) / self.bytes_per_s.max(1))
    }
}

/// The body of a request that has just come.
pub(crate) trait ArrivingBody:
    Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Send + Unpin + 'static
{
    /// Ends whatever brings it: it does not come as it must.
    fn give_up(&mut self);
}

impl ArrivingBody for IncomingBody {
    fn give_up(&mut self) {
        IncomingBody::give_up(self);
    }
}

/// Nothing but the body itself brings it.
impl ArrivingBody for FunctionBody {
    fn give_up(&mut self) {}
}

/// The length that a request says its body has.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body of a request, with a limit on its length and a minimum for its rate.
#[derive(Debug)]
pub(crate) struct LimitedBody<B> {
    body: B,
    max: u64,
    left: u64,
    min_rate: MinRate,
    /// How long the waits for bytes took so far, without the current one.
    waited: Duration,
    wait: Option<BodyWait>,
    faults: BodyFaults,
    /// What has arrived before the guest has asked for it.
    first: Option<Result<Frame<Bytes>, BodyError>>,
}

/// A wait for bytes. A body that has arrived completely needs none.
#[derive(Debug)]
struct BodyWait {
    since: Instant,
    timeout: Pin<Box<Sleep>>,
}

impl<B: ArrivingBody> LimitedBody<B> {
    pub(crate) fn new(body: B, max: u64, min_rate: MinRate, faults: BodyFaults) -> Self {
        let (left, waited) = (max, Duration::ZERO);
        Self { body, max, left, min_rate, waited, wait: None, faults, first: None }
    }

    /// Waits until the body has begun to arrive, or has ended. A client that does not send it costs
    /// no instance. One that may wait for the function to speak first does not wait for long.
    pub(crate) async fn begin(&mut self) {
        let knows_length = self.body.size_hint().exact().is_some();
        let begun = poll_fn(|cx| {
            self.first = ready!(self.poll_body(cx));
            Poll::Ready(())
        });
        if knows_length {
            begun.await;
        } else {
            let _ = time::timeout(FIRST_BYTES, begun).await;
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => self.poll_wait(cx).map(|error| Some(Err(error))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    forwarded::strip_trailers(trailers);
                }
                Poll::Ready(Some(self.count(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.faults.note(BodyFault::Broken);
                Poll::Ready(Some(Err(BodyError::Client(error))))
            }
        }
    }

    /// Nothing has arrived: waits, unless the waits have already taken too long.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        if self.min_rate.bytes_per_s == 0 {
            return Poll::Pending;
        }
        let left = self.min_rate.time_for(self.max - self.left).saturating_sub(self.waited);
        let wait = self.wait.get_or_insert_with(|| {
            let since = Instant::now();
            BodyWait { since, timeout: Box::pin(time::sleep_until(since + left)) }
        });
        wait.timeout.as_mut().poll(cx).map(|()| {
            self.body.give_up();
            self.faults.note(BodyFault::TooSlow(self.min_rate.bytes_per_s));
            BodyError::Client("the client sent it too slowly".into())
        })
    }

    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        if let Some(wait) = self.wait.take() {
            self.waited += wait.since.elapsed();
        }
        let len = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = self.left.checked_sub(len) else {
            self.faults.note(BodyFault::TooLarge(self.max));
            return Err(BodyError::RequestTooLarge(self.max));
        };
        self.left = left;
        Ok(frame)
    }
}

impl<B: ArrivingBody> Body for LimitedBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => this.poll_body(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(Ok(first)) = &self.first else { return self.body.size_hint() };
        let here = first.data_ref().map_or(0, Bytes::len) as u64;
        let rest = self.body.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower() + here);
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper + here);
        }
        whole
    }
}
