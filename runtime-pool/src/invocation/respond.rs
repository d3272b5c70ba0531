//! From a running guest to its response.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header, response::Parts};
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    task::coop,
    time,
};
use wasmtime_wasi_http::WasiBody;

use crate::{
    InvokeError,
    executor::request::{BodyError, ResponseHead},
    host::{http::outgoing_body::content_length, invocation_state::MeteredGuest},
    invocation::{
        checked_body::CheckedBody,
        guard::InvocationGuard,
        inline_body::InlineBody,
        response_body::{Response, ResponseBody},
        response_pipe::{AbortReport, BodyEnd, GuestTask, ResponsePipe, StreamedBody},
        response_task::{POLLS_MAX, ResponseTask},
    },
    metrics::start::Start,
    warm::reuse::Reusable,
};

/// Bytes of a body that are collected before the guest gets a task of its own.
const INLINE_BYTES: u64 = 64 << 10;

/// A guest in the caller's task, before its response leaves.
pub(super) struct GuestRun<G> {
    guest: MeteredGuest<G>,
    /// The head of the response, which the guest sends.
    head: oneshot::Receiver<ResponseHead>,
    /// Whether the request is a HEAD.
    is_head: bool,
    finished: bool,
    /// Whether the guest was polled a moment ago, and need not be in the next poll.
    just_polled: bool,
    /// The instance, once the guest has ended, if it may serve another call.
    reusable: Option<Reusable>,
    /// Released when the guest ends, not when the head of its response is sent.
    guard: InvocationGuard,
    invocation: u128,
    start: Start,
    /// When it began.
    since: Instant,
    /// The time for all of it, from the request for the function on.
    timeout: Duration,
}

impl<G> GuestRun<G>
where
    G: Future<Output = Result<Option<Reusable>, InvokeError>> + Send + 'static,
{
    /// A guest that begins at `since`.
    pub(super) fn new(
        guest: Pin<Box<G>>,
        head: oneshot::Receiver<ResponseHead>,
        is_head: bool,
        guard: InvocationGuard,
        invocation: u128,
        start: Start,
        since: Instant,
    ) -> Self {
        let guest = MeteredGuest::new(guest, Arc::clone(&guard.state));
        let timeout = guard.function().limits().timeout;
        Self {
            guest,
            head,
            is_head,
            finished: false,
            just_polled: false,
            reusable: None,
            guard,
            invocation,
            start,
            since,
            timeout,
        }
    }

    /// Gives it no more time than this.
    pub(super) fn limit_to(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout.map_or(self.timeout, |timeout| timeout.min(self.timeout));
    }

    /// When the invocation's time is over. Loading the function is a part of it.
    fn deadline(&self) -> time::Instant {
        let left = self.timeout.saturating_sub(self.start.loading());
        (self.since + left).into()
    }

    /// Polls the guest for the first time. Returns the head of its response if there is one already: most
    /// guests are done then, and need no task, no timer and nothing that can move.
    pub(super) async fn begin(&mut self) -> Result<Option<http::Response<WasiBody>>, InvokeError> {
        poll_fn(|cx| Poll::Ready(self.poll_guest(cx))).await?;
        self.just_polled = true;
        // Without a head, the guest goes on or has failed: `into_response` finds out.
        self.head.try_recv().ok().transpose().map_err(InvokeError::NoResponse)
    }

    /// The longest time that the guest has kept its thread to itself so far.
    pub(super) fn longest_poll(&self) -> Duration {
        self.guard.state.meter.longest_poll()
    }

    /// Runs the guest until there is a response.
    pub(super) async fn into_response(mut self) -> Result<(Response, Start), InvokeError> {
        let head = self.wait_for_head().await?;
        let collected = self.collect(head).await?;
        Ok(self.finish(collected))
    }

    /// Runs the guest until it has decided on the head of its response.
    async fn wait_for_head(&mut self) -> Result<http::Response<WasiBody>, InvokeError> {
        let mut deadline = pin!(time::sleep_until(self.deadline()));
        let first = poll_fn(|cx| {
            // The guest first: most have decided when it pauses.
            if !std::mem::take(&mut self.just_polled) {
                self.poll_guest(cx)?;
            }
            if let Poll::Ready(head) = self.poll_head(cx) {
                return Poll::Ready(Ok(head));
            }
            ready!(deadline.as_mut().poll(cx));
            self.explain_timeout();
            Poll::Ready(Err(self.timed_out()))
        });
        match first.await? {
            Some(head) => head.map_err(InvokeError::NoResponse),
            None => Err(self.end_without_head().await),
        }
    }

    fn poll_guest(&mut self, cx: &mut Context<'_>) -> Result<(), InvokeError> {
        if !self.finished
            && let Poll::Ready(result) = Pin::new(&mut self.guest).poll(cx)
        {
            self.finished = true;
            self.reusable = result?;
        }
        Ok(())
    }

    /// `None` if there will be no head.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Option<ResponseHead>> {
        match self.head.try_recv() {
            Ok(head) => Poll::Ready(Some(head)),
            Err(TryRecvError::Closed) => Poll::Ready(None),
            Err(TryRecvError::Empty) => Pin::new(&mut self.head).poll(cx).map(Result::ok),
        }
    }

    fn timed_out(&self) -> InvokeError {
        InvokeError::Timeout(self.timeout)
    }

    /// A guest that writes a large body before it has given its response waits for a reader for ever.
    fn explain_timeout(&self) {
        if self.guard.state.made_response() {
            let log = self.guard.function().template.log();
            log.system(
                self.invocation,
                "it has made a response and not given it: give it first (response-outparam.set, or \
                 return it), and write its body then",
            );
        }
    }

    /// Why there is no head. Its sender is gone, but the guest may still run and end with an error.
    async fn end_without_head(&mut self) -> InvokeError {
        let ended = if self.finished {
            Ok(Ok(None))
        } else {
            time::timeout_at(self.deadline(), &mut self.guest).await
        };
        match ended {
            Ok(Ok(_)) => no_response("it returned without one (response-outparam.set)"),
            Ok(Err(error)) => error,
            Err(_) => self.timed_out(),
        }
    }

    /// Checks the head of the response, and polls the guest and its body in turn for as long as either
    /// makes progress. Small responses end here and need no task.
    pub(super) async fn collect(
        &mut self,
        head: http::Response<WasiBody>,
    ) -> Result<Collected, InvokeError> {
        let (head, body) = head.into_parts();
        check_head(&head)?;
        self.guard.state.add_phases(&mut self.start, self.since);
        let promised = content_length(&head.headers)
            .map_err(|()| no_response("its content-length is not one number"))?;
        let (limits, state) = (self.guard.function().limits(), Arc::clone(&self.guard.state));
        let body = if has_content(self.is_head, head.status) {
            CheckedBody::new(body, promised, limits, state)
        } else {
            CheckedBody::discarded(body, limits, state)
        };
        let mut collected = Collected { head, body, inline: InlineBody::default(), ended: false };
        poll_fn(|cx| Poll::Ready(self.collect_ready(&mut collected, cx))).await?;
        Ok(collected)
    }

    fn collect_ready(
        &mut self,
        Collected { body, inline, ended, .. }: &mut Collected,
        cx: &mut Context<'_>,
    ) -> Result<(), InvokeError> {
        // No longer than a task would poll it: its writes may be very small.
        for _ in 0..POLLS_MAX {
            let had = body.written();
            if !*ended {
                *ended = collect_body(body, inline, cx)?;
            }
            if self.finished {
                return Ok(());
            }
            // Nothing has been sent, so the caller can be answered with an error.
            self.poll_guest(cx)?;
            if !self.finished && !(had + 1..INLINE_BYTES).contains(&body.written()) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The response. If guest or body have not ended, they go on in a task of their own.
    pub(super) fn finish(mut self, collected: Collected) -> (Response, Start) {
        let Collected { mut head, body, inline, ended } = collected;
        if ended && let Some(reusable) = self.reusable.take() {
            self.guard.function().warm.keep(reusable);
        }
        let start = self.start;
        if let Some(trailers) = &inline.trailers {
            announce(trailers, &mut head.headers);
        }
        let whole = ended && self.finished;
        let body = if body.is_discarded() {
            if self.is_head && ended {
                tell_length(&mut head.headers, body.written());
            }
            if !whole {
                self.go_on((!ended).then_some(body), inline);
            }
            ResponseBody::full(Bytes::new())
        } else if whole && inline.trailers.is_none() {
            inline.into_full()
        } else {
            self.go_on((!ended).then_some(body), inline)
        };
        (http::Response::from_parts(head, body), start)
    }

    /// Spawns the task in which the guest, and its `body` if that has not ended, go on. Returns the
    /// body of the response, which begins with what was collected.
    fn go_on(self, body: Option<CheckedBody>, mut inline: InlineBody) -> ResponseBody {
        let deadline = self.deadline();
        let Self { guest, finished, reusable, guard, invocation, .. } = self;
        let function = Arc::clone(guard.function());
        let trailers = inline.trailers.take();
        // A complete body without trailers needs no pipe to the task, and nor does a body that the
        // client does not get.
        let complete = body.as_ref().map_or(trailers.is_none(), CheckedBody::is_discarded);
        let (full, begun) = if complete {
            (Some(inline.into_full()), BytesMut::new())
        } else {
            (None, inline.into_buffer())
        };
        let pipe = ResponsePipe::new(begun, &function.limits().guest);
        if complete || body.is_none() {
            pipe.end(BodyEnd::Complete(trailers));
        }
        let state = Arc::clone(&guard.state);
        let task = ResponseTask {
            guest: (!finished).then_some(guest),
            guard: (!finished).then_some(guard),
            complete,
            reusable,
            ended_well: true,
            body,
            pipe: Arc::clone(&pipe),
            deadline,
            function: Arc::clone(&function),
            state,
            waker: Arc::default(),
            invocation,
        };
        let running = Arc::clone(&function);
        // Unconstrained: the task yields at a tick and after a number of polls. Tokio's own budget
        // would make it yield after some tens of bytes.
        let task = tokio::spawn(async move {
            running.admission.background.run(coop::unconstrained(task.run())).await;
        });
        let guest = GuestTask { abort: task.abort_handle(), may_end_by_itself: complete };
        full.unwrap_or_else(|| {
            let abort_report = AbortReport {
                metrics: function.statistics.metrics.clone(),
                log: Arc::clone(function.template.log()),
                invocation,
            };
            ResponseBody::streamed(StreamedBody { pipe, guest, abort_report })
        })
    }
}

/// A response, as far as it was collected.
pub(super) struct Collected {
    head: Parts,
    body: CheckedBody,
    inline: InlineBody,
    /// Whether the body has ended.
    ended: bool,
}

/// Collects what a body has ready. Returns whether it has ended.
fn collect_body(
    body: &mut CheckedBody,
    inline: &mut InlineBody,
    cx: &mut Context<'_>,
) -> Result<bool, InvokeError> {
    while body.written() < INLINE_BYTES {
        match body.poll_frame(cx) {
            Poll::Pending => break,
            Poll::Ready(None) => return Ok(true),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => inline.push(data),
                Err(frame) => {
                    inline.trailers = frame.into_trailers().ok();
                    return Ok(true);
                }
            },
            Poll::Ready(Some(Err(error))) => return Err(body_failed(&error, body.why())),
        }
    }
    Ok(false)
}

/// Refuses statuses that no final response has, and the header field about the connection, which
/// belongs to the gateway, that the engine does not refuse.
fn check_head(head: &Parts) -> Result<(), InvokeError> {
    let status = head.status.as_u16();
    if !(200..600).contains(&status) {
        return Err(no_response(&format!("its status is {status}, and not one of 200 to 599")));
    }
    if head.headers.contains_key(header::TE) {
        return Err(no_response("it sets the header `te`, which belongs to the gateway"));
    }
    Ok(())
}

/// Whether a response may have content (RFC 9110, section 6.4.1).
fn has_content(is_head: bool, status: StatusCode) -> bool {
    let never = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    !is_head && !never.contains(&status)
}

/// Tells the length of the content that a GET would get, unless the guest has told it or has left
/// the content out.
fn tell_length(headers: &mut HeaderMap, written: u64) {
    if written > 0 && !headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, written.into());
    }
}

/// Names the trailers in the head, unless the guest has: HTTP/1.1 sends no others.
fn announce(trailers: &HeaderMap, head: &mut HeaderMap) {
    if !head.contains_key(header::TRAILER) {
        let names: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
        if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
            head.insert(header::TRAILER, names);
        }
    }
}

fn body_failed(error: &BodyError, why: Option<&str>) -> InvokeError {
    match error {
        BodyError::Limit(limit) => InvokeError::ResponseLimit(*limit),
        BodyError::Client(_) | BodyError::RequestTooLarge(_) | BodyError::Function => {
            InvokeError::NoResponse(why.map_or_else(|| error.to_string(), str::to_owned))
        }
    }
}

fn no_response(why: &str) -> InvokeError {
    InvokeError::NoResponse(why.into())
}
