//! One invocation: from the first poll of its guest to the last byte of its response.
//!
//! The guest runs inline in the caller's task. Most guests finish in their first poll, and then
//! no task, channel or timer was needed. One that answers and goes on gets a task of its own,
//! which ends with the guest, at its deadline, or when nobody wants the rest of the body.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::header;
use tokio::{sync::oneshot, time};

use crate::{
    InvokeError, Limits,
    body::{BodyError, Cut, GuestTask, Limited, ResponseBody, Streaming},
    call::{Head, Response},
    function::Occupancy,
    guest_log::FunctionLog,
    long::Lane,
    metrics::PoolMetrics,
    run::{Metered, Run},
    start::Start,
};

/// Bytes of a body that are collected inline before the guest gets a task of its own.
const INLINE_BYTES: usize = 64 << 10;
/// How long a guest may go on after the end of its response.
const AFTER_RESPONSE: Duration = Duration::from_secs(1);

/// What the guest's future needs to be driven.
pub(crate) struct Drive<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) metrics: &'a PoolMetrics,
    /// Where failures after the head are explained to the owner.
    pub(crate) log: &'a Arc<FunctionLog>,
    /// Where the guest runs.
    pub(crate) lane: &'a Arc<Lane>,
    /// Released when the guest ends, not when the head of its response is sent.
    pub(crate) occupancy: Occupancy,
    pub(crate) invocation: u128,
    /// What was done before.
    pub(crate) start: Start,
}

/// Runs `guest` until there is a response; then, if need be, lets it go on in a task of its own.
pub(crate) async fn drive<G>(
    guest: Pin<Box<G>>,
    mut head: oneshot::Receiver<Head>,
    drive: Drive<'_>,
) -> Result<(Response, Start), InvokeError>
where
    G: Future<Output = Result<(), InvokeError>> + Send + 'static,
{
    let started = Instant::now();
    let Drive { limits, metrics, log, lane, occupancy, invocation, mut start } = drive;
    let run = Arc::clone(&occupancy.run);
    let mut guest = Metered::new(guest, Arc::clone(&run));
    let deadline = time::Instant::now() + limits.timeout;

    let mut finished = false;
    let first = tokio::select! {
        // The guest first: most are done at once, and the timer is then never registered.
        biased;
        result = &mut guest => {
            finished = true;
            result.map(|()| head.try_recv().ok())
        }
        first = &mut head => Ok(first.ok()),
        () = time::sleep_until(deadline) => Err(InvokeError::Timeout(limits.timeout)),
    };
    let first = match first? {
        Some(first) => first,
        // The sender is gone without a word while the guest goes on, or the guest has returned.
        None if finished => return Err(no_response("it returned without one")),
        None => {
            return Err(match time::timeout_at(deadline, &mut guest).await {
                Ok(Ok(())) => no_response("it returned without one"),
                Ok(Err(error)) => error,
                Err(_) => InvokeError::Timeout(limits.timeout),
            });
        }
    };
    let (parts, body) = first.map_err(InvokeError::NoResponse)?.into_parts();
    run.note(&mut start, started);
    let mut body = Limited::new(
        body,
        content_length(&parts.headers)?,
        limits.response_bytes,
        Arc::clone(&run),
    );

    let mut collected = Collected::default();
    let ended = collect_inline(&mut guest, &mut finished, &mut body, &mut collected).await?;
    if ended && finished {
        drop(occupancy);
        return Ok((http::Response::from_parts(parts, collected.into_full()), start));
    }
    let (sender, receiver) = oneshot::channel();
    let cut = Cut { metrics: metrics.clone(), log: Arc::clone(log), invocation };
    let (log, lane) = (Arc::clone(log), Arc::clone(lane));
    let guest = Continued { guest: (!finished).then_some(guest), run, log, invocation };
    let task = tokio::spawn(async move {
        let rest = async move {
            guest.run(deadline, receiver).await;
            drop(occupancy);
        };
        lane.run(rest).await;
    });
    let body = if ended {
        // The response is complete and leaves; the guest has a moment to end by itself.
        let _ = sender.send(());
        collected.into_full()
    } else {
        let guest = GuestTask { abort: task.abort_handle(), ended: Some(sender) };
        let head = collected.into_buffer();
        ResponseBody::streaming(Streaming { head, rest: body, guest, cut })
    };
    Ok((http::Response::from_parts(parts, body), start))
}

/// A guest that has answered and goes on. Owned by the body: dropping that aborts the task.
struct Continued<G> {
    guest: Option<Metered<G>>,
    run: Arc<Run>,
    log: Arc<FunctionLog>,
    invocation: u128,
}

impl<G: Future<Output = Result<(), InvokeError>>> Continued<G> {
    async fn run(self, deadline: time::Instant, ended: oneshot::Receiver<()>) {
        let Some(guest) = self.guest else {
            // The guest is done; what it wrote waits in the body.
            return;
        };
        let failure = tokio::select! {
            biased;
            result = guest => result.err().map(|error| error.to_string()),
            () = time::sleep_until(deadline) => Some("its wall-clock limit passed".into()),
            () = after(ended) => None,
        };
        if let Some(failure) = failure {
            self.run.outcome.fail();
            self.log.system(self.invocation, &format!("the response broke off: {failure}"));
        }
    }
}

/// Ends a moment after the body's end was announced, and never if it is not.
async fn after(ended: oneshot::Receiver<()>) {
    if ended.await.is_err() {
        std::future::pending::<()>().await;
    }
    time::sleep(AFTER_RESPONSE).await;
}

/// What was collected of a body: one frame is passed on as it is, more are put together.
#[derive(Default)]
struct Collected {
    first: Bytes,
    more: BytesMut,
}

impl Collected {
    fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() && self.more.is_empty() {
            self.first = data;
        } else {
            if self.more.is_empty() {
                self.more.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.more.extend_from_slice(&data);
        }
    }

    fn into_full(self) -> ResponseBody {
        if self.more.is_empty() {
            ResponseBody::full(self.first)
        } else {
            ResponseBody::full(self.more.freeze())
        }
    }

    fn into_buffer(self) -> BytesMut {
        if self.more.is_empty() { BytesMut::from(self.first) } else { self.more }
    }
}

/// Polls the guest and its body in turn for as long as either makes progress. Returns whether the
/// body has ended, which spares small responses the task.
async fn collect_inline<G>(
    guest: &mut Metered<G>,
    finished: &mut bool,
    body: &mut Limited,
    collected: &mut Collected,
) -> Result<bool, InvokeError>
where
    G: Future<Output = Result<(), InvokeError>>,
{
    let mut ended = false;
    let mut guest = pin!(guest);
    poll_fn(|cx| {
        loop {
            let mut progress = false;
            while !ended && collected.len() < INLINE_BYTES {
                match body.poll_frame(cx) {
                    Poll::Pending => break,
                    Poll::Ready(None) => ended = true,
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            collected.push(data);
                            progress = true;
                        }
                        // Trailers need the stream; the little that was collected goes first.
                        Err(frame) => {
                            body.keep_trailers(frame);
                            return Poll::Ready(Ok(false));
                        }
                    },
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(broken(&error)));
                    }
                }
            }
            if *finished {
                return Poll::Ready(Ok(ended));
            }
            match guest.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => *finished = true,
                // Nothing has been sent: the caller can be told what really happened.
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if progress && collected.len() < INLINE_BYTES => {}
                Poll::Pending => return Poll::Ready(Ok(ended)),
            }
        }
    })
    .await
}

fn content_length(headers: &http::HeaderMap) -> Result<Option<u64>, InvokeError> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.as_bytes();
    let length = std::str::from_utf8(digits)
        .ok()
        .filter(|_| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
        .and_then(|text| text.parse().ok());
    match (length, values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(no_response("its content-length is not one number")),
    }
}

fn broken(error: &BodyError) -> InvokeError {
    InvokeError::NoResponse(error.to_string())
}

fn no_response(why: &str) -> InvokeError {
    InvokeError::NoResponse(why.into())
}
