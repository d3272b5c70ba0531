//! From a running guest to its response.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header, response::Parts};
use tokio::{sync::oneshot, task::coop, time};
use wasmtime_wasi_http::WasiBody;

use crate::{
    Function, InvokeError,
    executor::request::{BodyError, ResponseHead},
    host::invocation_state::MeteredGuest,
    invocation::{
        checked_body::CheckedBody,
        guard::InvocationGuard,
        inline_body::InlineBody,
        response_body::{Response, ResponseBody},
        response_pipe::{AbortReport, BodyEnd, GuestTask, ResponsePipe, StreamedBody},
        response_task::ResponseTask,
    },
    metrics::start::Start,
    warm::reuse::Reusable,
};

/// Bytes of a body that are collected before the guest gets a task of its own.
const INLINE_BYTES: u64 = 64 << 10;

/// A guest in the caller's task, before its response leaves.
pub(super) struct GuestRun<'a, G> {
    guest: MeteredGuest<G>,
    finished: bool,
    /// The instance, once the guest has ended, if it may serve another call.
    reusable: Option<Reusable>,
    /// Released when the guest ends, not when the head of its response is sent.
    guard: InvocationGuard,
    function: &'a Arc<Function>,
    invocation: u128,
    deadline: time::Instant,
}

/// Runs a guest until there is a response to its request, which may be a HEAD. If guest or body have
/// not ended by then, they go on in a task of their own.
pub(super) async fn run_to_response<G>(
    mut run: GuestRun<'_, G>,
    head: oneshot::Receiver<ResponseHead>,
    is_head: bool,
    mut start: Start,
) -> Result<(Response, Start), InvokeError>
where
    G: Future<Output = Result<Option<Reusable>, InvokeError>> + Send + 'static,
{
    let started = Instant::now();
    let (mut parts, body) = run.head(head).await?.into_parts();
    check_head(&parts)?;
    run.guard.state.add_phases(&mut start, started);
    let promised = content_length(&parts.headers)?;
    let limits = run.function.limits();
    let state = Arc::clone(&run.guard.state);
    let mut body = if has_content(is_head, parts.status) {
        CheckedBody::new(body, promised, limits, state)
    } else {
        CheckedBody::discarded(body, limits, state)
    };
    let mut inline = InlineBody::default();
    let ended = run.collect(&mut body, &mut inline).await?;
    if ended && let Some(reusable) = run.reusable.take() {
        run.function.warm.keep(reusable);
    }
    if let Some(trailers) = &inline.trailers {
        announce(trailers, &mut parts.headers);
    }
    if body.is_discarded() {
        if is_head && ended {
            tell_length(&mut parts.headers, body.written());
        }
        if !(ended && run.finished) {
            run.go_on((!ended).then_some(body), inline);
        }
        return Ok((http::Response::from_parts(parts, ResponseBody::full(Bytes::new())), start));
    }
    let body = if ended && run.finished && inline.trailers.is_none() {
        inline.into_full()
    } else {
        run.go_on((!ended).then_some(body), inline)
    };
    Ok((http::Response::from_parts(parts, body), start))
}

impl<'a, G> GuestRun<'a, G>
where
    G: Future<Output = Result<Option<Reusable>, InvokeError>> + Send + 'static,
{
    pub(super) fn new(
        guest: Pin<Box<G>>,
        guard: InvocationGuard,
        function: &'a Arc<Function>,
        invocation: u128,
        loading: Duration,
    ) -> Self {
        // Loading the function is a part of the invocation.
        let left = function.limits().timeout.saturating_sub(loading);
        let deadline = time::Instant::now() + left;
        let guest = MeteredGuest::new(guest, Arc::clone(&guard.state));
        Self { guest, finished: false, reusable: None, guard, function, invocation, deadline }
    }

    /// Runs the guest until it has decided on the head of its response.
    async fn head(
        &mut self,
        mut head: oneshot::Receiver<ResponseHead>,
    ) -> Result<http::Response<WasiBody>, InvokeError> {
        let timeout = self.function.limits().timeout;
        let first = tokio::select! {
            // The guest first: most are done at once, and the timer is then never registered.
            biased;
            result = &mut self.guest => {
                self.finished = true;
                result.map(|reusable| {
                    self.reusable = reusable;
                    head.try_recv().ok()
                })
            }
            first = &mut head => Ok(first.ok()),
            () = time::sleep_until(self.deadline) => {
                self.explain_timeout();
                Err(InvokeError::Timeout(timeout))
            }
        }?;
        match first {
            Some(head) => head.map_err(InvokeError::NoResponse),
            None => Err(self.end_without_head().await),
        }
    }

    /// A guest that writes a large body before it has given its response waits for a reader for ever.
    fn explain_timeout(&self) {
        if self.guard.state.made_response() {
            let log = self.function.template.log();
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
            time::timeout_at(self.deadline, &mut self.guest).await
        };
        match ended {
            Ok(Ok(_)) => no_response("it returned without one (response-outparam.set)"),
            Ok(Err(error)) => error,
            Err(_) => InvokeError::Timeout(self.function.limits().timeout),
        }
    }

    /// Polls the guest and its body in turn for as long as either makes progress. Returns whether
    /// the body has ended. Small responses end here and need no task.
    async fn collect(
        &mut self,
        body: &mut CheckedBody,
        inline: &mut InlineBody,
    ) -> Result<bool, InvokeError> {
        let mut ended = false;
        poll_fn(|cx| {
            loop {
                let had = body.written();
                if !ended && collect_body(body, inline, cx)? {
                    ended = true;
                }
                if self.finished {
                    return Poll::Ready(Ok(ended));
                }
                match Pin::new(&mut self.guest).poll(cx) {
                    Poll::Ready(Ok(reusable)) => {
                        self.finished = true;
                        self.reusable = reusable;
                    }
                    // Nothing has been sent, so the caller can be answered with the error.
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if (had + 1..INLINE_BYTES).contains(&body.written()) => {}
                    Poll::Pending => return Poll::Ready(Ok(ended)),
                }
            }
        })
        .await
    }

    /// Spawns the task in which the guest, and its `body` if that has not ended, go on. Returns the
    /// body of the response, which begins with what was collected.
    fn go_on(self, body: Option<CheckedBody>, mut inline: InlineBody) -> ResponseBody {
        let Self { guest, finished, reusable, guard, function, invocation, deadline } = self;
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
            function: Arc::clone(function),
            state,
            waker: Arc::default(),
            invocation,
        };
        let running = Arc::clone(function);
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

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, InvokeError> {
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
