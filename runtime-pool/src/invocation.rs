//! One invocation: from the first poll of its guest to the last byte of its response.
//!
//! The guest runs inline in the caller's task. Most guests finish in their first poll, and then
//! no task, channel or timer was needed. One that answers and goes on gets a task of its own,
//! which ends with the guest, at its deadline, or when nobody wants the rest of the body.

pub(crate) mod progress_waker;
pub(crate) mod response_body;
pub(crate) mod stream;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::header;
use tokio::{sync::oneshot, task::coop, time};

use crate::{
    InvokeError, Limit, Limits,
    admission::background::BackgroundLane,
    executor::request::{BodyError, Head},
    host::invocation_state::{InvocationState, Metered},
    invocation::{
        progress_waker::ProgressWaker,
        response_body::{CheckedBody, Response, ResponseBody},
        stream::{AbortReport, BodyEnd, GuestTask, Pipe, Streaming},
    },
    metrics::{PoolMetrics, guest_log::FunctionLog, start::Start},
    pool::function::InvocationGuard,
};

/// How often a guest is polled before others get their turn: its writes may be very small. With four
/// times as many, a hundred guests that write single bytes kept others waiting for seconds.
const TURNS: usize = 64;
/// Bytes of a body that are collected inline before the guest gets a task of its own.
const INLINE_BYTES: usize = 64 << 10;

/// What the guest's future needs to be driven.
pub(crate) struct RunToResponse<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) metrics: &'a PoolMetrics,
    /// Where failures after the head are explained to the owner.
    pub(crate) log: &'a Arc<FunctionLog>,
    /// Where the guest runs.
    pub(crate) lane: &'a Arc<BackgroundLane>,
    /// Released when the guest ends, not when the head of its response is sent.
    pub(crate) occupancy: InvocationGuard,
    pub(crate) invocation: u128,
    /// What was done before.
    pub(crate) start: Start,
}

/// Runs `guest` until there is a response; then, if need be, lets it go on in a task of its own.
pub(crate) async fn drive<G>(
    guest: Pin<Box<G>>,
    mut head: oneshot::Receiver<Head>,
    drive: RunToResponse<'_>,
) -> Result<(Response, Start), InvokeError>
where
    G: Future<Output = Result<(), InvokeError>> + Send + 'static,
{
    let started = Instant::now();
    let RunToResponse { limits, metrics, log, lane, occupancy, invocation, mut start } = drive;
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
    check_head(&parts.headers)?;
    run.note(&mut start, started);
    let mut body =
        CheckedBody::new(body, content_length(&parts.headers)?, limits, Arc::clone(&run));

    let mut collected = InlineBody::default();
    let ended = collect_inline(&mut guest, &mut finished, &mut body, &mut collected).await?;
    let trailers = collected.trailers.take();
    if ended && finished && trailers.is_none() {
        drop(occupancy);
        return Ok((http::Response::from_parts(parts, collected.into_full()), start));
    }
    // A response without trailers that is complete leaves as it is.
    let whole = ended && trailers.is_none();
    let (full, begun) = if whole {
        (Some(collected.into_full()), BytesMut::new())
    } else {
        (None, collected.into_buffer())
    };
    let pipe = Pipe::new(begun, &limits.guest);
    if ended {
        pipe.end(BodyEnd::Whole(trailers));
    }
    let cut = AbortReport { metrics: metrics.clone(), log: Arc::clone(log), invocation };
    let lane = Arc::clone(lane);
    let guest = ResponseTask {
        guest: (!finished).then_some(guest),
        occupancy: (!finished).then_some(occupancy),
        body: (!ended).then_some(body),
        pipe: Arc::clone(&pipe),
        deadline,
        after_response: limits.guest.after_response,
        run,
        wakes: Arc::default(),
        metrics: metrics.clone(),
        log: Arc::clone(log),
        invocation,
    };
    // The guest's turns have their end, at a tick or after so many writes: the runtime's own measure
    // would end them after some tens of bytes.
    let task = tokio::spawn(async move { lane.run(coop::unconstrained(guest.run())).await });
    let guest = GuestTask { abort: task.abort_handle(), may_end_by_itself: whole };
    let streaming = || ResponseBody::streaming(Streaming { pipe, guest, cut });
    Ok((http::Response::from_parts(parts, full.unwrap_or_else(streaming)), start))
}

/// A guest that has answered and goes on. Owned by the body: dropping that aborts the task.
struct ResponseTask<G> {
    /// The guest, until it has ended.
    guest: Option<Metered<G>>,
    /// What it occupies, as long.
    occupancy: Option<InvocationGuard>,
    /// What it writes, until that has ended.
    body: Option<CheckedBody>,
    pipe: Arc<Pipe>,
    deadline: time::Instant,
    /// How long it may go on after the end of its response.
    after_response: Duration,
    run: Arc<InvocationState>,
    wakes: Arc<ProgressWaker>,
    metrics: PoolMetrics,
    log: Arc<FunctionLog>,
    invocation: u128,
}

impl<G: Future<Output = Result<(), InvokeError>>> ResponseTask<G> {
    async fn run(mut self) {
        let mut deadline = self.deadline;
        while self.guest.is_some() || self.body.is_some() {
            let was_open = self.body.is_some();
            if !was_open {
                // The response is complete; the guest has a moment to end by itself.
                deadline = deadline.min(time::Instant::now() + self.after_response);
            }
            let ended = poll_fn(|cx| self.poll_until(cx, was_open));
            match time::timeout_at(deadline, ended).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.fail(&error.to_string(), error.limit()),
                Err(_) if was_open => {
                    self.fail("its wall-clock limit passed (timeout_ms)", Some(Limit::Timeout));
                    break;
                }
                Err(_) => {
                    self.metrics.limit_ended(Limit::AfterResponse);
                    let most = self.after_response;
                    let why = format!(
                        "it was ended {most:?} after its response (guests.after_response_ms)"
                    );
                    self.log.system(self.invocation, &why);
                    break;
                }
            }
        }
    }

    fn fail(&self, why: &str, limit: Option<Limit>) {
        if let Some(limit) = limit {
            self.metrics.limit_ended(limit);
        }
        self.run.outcome.fail();
        self.log.system(self.invocation, &format!("the response broke off: {why}"));
    }

    /// Goes on until the guest and its body have ended; or only one of them, if that is the body
    /// and it `was_open`, because then another deadline holds.
    fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        was_open: bool,
    ) -> Poll<Result<(), InvokeError>> {
        let waker = self.wakes.waker(cx.waker());
        let cx = &mut Context::from_waker(&waker);
        for _ in 0..TURNS {
            self.wakes.begin();
            if let Some(guest) = &mut self.guest
                && let Poll::Ready(result) = Pin::new(guest).poll(cx)
            {
                self.guest = None;
                self.occupancy = None;
                return Poll::Ready(result);
            }
            // After the guest: what it has just written is not left to lie.
            let wrote = self.poll_body(cx);
            if self.body.is_none() && (was_open || self.guest.is_none()) {
                return Poll::Ready(Ok(()));
            }
            // What a guest that computes does not write for long must not wait.
            let computes = self.guest.is_some() && self.run.was_interrupted();
            if computes || !(wrote || self.wakes.woken()) {
                self.pipe.flush();
            }
            if computes || !wrote {
                return Poll::Pending;
            }
        }
        // Others on this thread get their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Passes on what the guest has written. Says whether that was anything.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> bool {
        let mut wrote = false;
        while let Some(body) = &mut self.body {
            // Once the guest is gone, the little that is left of its body need not wait.
            if self.guest.is_some() && !self.pipe.has_room(cx) {
                break;
            }
            let end = match body.poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.pipe.write(data);
                        wrote = true;
                        continue;
                    }
                    Err(frame) => BodyEnd::Whole(frame.into_trailers().ok()),
                },
                Poll::Ready(None) => BodyEnd::Whole(None),
                Poll::Ready(Some(Err(error))) => BodyEnd::Broken(error),
            };
            self.pipe.end(end);
            self.body = None;
        }
        wrote
    }
}

impl<G> Drop for ResponseTask<G> {
    fn drop(&mut self) {
        // What could still be written is not waited for.
        self.guest = None;
        // However this came about: after a panic, too, there is a client that waits for the rest.
        self.pipe.end(BodyEnd::Broken(BodyError::Function));
    }
}

/// What was collected of a body: one frame is passed on as it is, more are put together.
#[derive(Default)]
struct InlineBody {
    first: Bytes,
    more: BytesMut,
    trailers: Option<http::HeaderMap>,
}

impl InlineBody {
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
    body: &mut CheckedBody,
    collected: &mut InlineBody,
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
                        Err(frame) => {
                            collected.trailers = frame.into_trailers().ok();
                            ended = true;
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

/// What belongs to the gateway's side of a connection is not for guests to say. (The engine refuses
/// them the rest of it.)
fn check_head(headers: &http::HeaderMap) -> Result<(), InvokeError> {
    let ours = |name: &&http::HeaderName| **name == header::TE || **name == header::TRAILER;
    headers.keys().find(ours).map_or(Ok(()), |name| {
        Err(no_response(&format!("it sets the header `{name}`, which belongs to the gateway")))
    })
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
    match error {
        BodyError::Limit(limit) => InvokeError::ResponseLimit(*limit),
        BodyError::Client(_) | BodyError::RequestTooLarge(_) | BodyError::Function => {
            InvokeError::NoResponse(error.to_string())
        }
    }
}

fn no_response(why: &str) -> InvokeError {
    InvokeError::NoResponse(why.into())
}
