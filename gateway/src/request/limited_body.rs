//! Bodies of the data plane.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gateway_api::FunctionLimit;
use http_body::{Body, Frame, SizeHint};
use runtime_pool::BodyError;
use tokio::time::{self, Instant, Sleep};

use crate::{
    config::MinRate,
    problem::{Problem, function_setting, table},
    server::IncomingBody,
};

/// What went wrong with a client's body, for whoever answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It is longer than this.
    TooLarge(u64),
    /// It came more slowly than this, in bytes a second.
    TooSlow(u64),
    /// It broke off, or its framing is wrong.
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

/// Tells whoever answers a request what went wrong with its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyFaults(Arc<OnceLock<BodyFault>>);

impl BodyFaults {
    /// What went wrong first, if anything did so far.
    pub(crate) fn first(&self) -> Option<BodyFault> {
        self.0.get().copied()
    }

    fn note(&self, trouble: BodyFault) {
        // The first is what matters.
        let _ = self.0.set(trouble);
    }
}

impl MinRate {
    /// How long may be waited in all for so many bytes.
    fn patience(&self, bytes: u64) -> Duration {
        self.grace + Duration::from_millis(bytes.saturating_mul(1_000) / self.bytes_per_s.max(1))
    }
}

/// A client's body that may not be longer, or slower, than it may be.
#[derive(Debug)]
pub(crate) struct LimitedBody {
    body: IncomingBody,
    max: u64,
    left: u64,
    pace: MinRate,
    /// Waited for bytes so far, without the wait that goes on.
    waited: Duration,
    waiting: Option<Waiting>,
    troubles: BodyFaults,
}

/// A wait for bytes. Bodies that are there at once have none.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    over: Pin<Box<Sleep>>,
}

impl LimitedBody {
    pub(crate) fn new(body: IncomingBody, max: u64, pace: MinRate, troubles: BodyFaults) -> Self {
        Self { body, max, left: max, pace, waited: Duration::ZERO, waiting: None, troubles }
    }

    /// Nothing has arrived: waits on, unless that took too long already.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        if self.pace.bytes_per_s == 0 {
            return Poll::Pending;
        }
        let left = self.pace.patience(self.max - self.left).saturating_sub(self.waited);
        let waiting = self.waiting.get_or_insert_with(|| {
            let since = Instant::now();
            Waiting { since, over: Box::pin(time::sleep_until(since + left)) }
        });
        waiting.over.as_mut().poll(cx).map(|()| {
            self.troubles.note(BodyFault::TooSlow(self.pace.bytes_per_s));
            BodyError::Client("it came too slowly".into())
        })
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        if let Some(waiting) = self.waiting.take() {
            self.waited += waiting.since.elapsed();
        }
        let len = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = self.left.checked_sub(len) else {
            self.troubles.note(BodyFault::TooLarge(self.max));
            return Err(BodyError::RequestTooLarge(self.max));
        };
        self.left = left;
        Ok(frame)
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => this.wait(cx).map(|error| Some(Err(error))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(this.take(frame))),
            Poll::Ready(Some(Err(error))) => {
                this.troubles.note(BodyFault::Broken);
                Poll::Ready(Some(Err(BodyError::Client(error.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
