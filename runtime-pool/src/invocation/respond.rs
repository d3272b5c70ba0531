//! From a running guest to its response.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, header};
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
};

/// Bytes of a body that are collected before the guest gets a task of its own.
const INLINE_BYTES: usize = 64 << 10;

/// A guest in the caller's task, before its response leaves.
pub(super) struct GuestRun<'a, G> {
    guest: MeteredGuest<G>,
    finished: bool,
    /// Released when the guest ends, not when the head of its response is sent.
    guard: InvocationGuard,
    function: &'a Arc<Function>,
    invocation: u128,
    deadline: time::Instant,
}

/// Runs `guest` until there is a response. If guest or body have not ended by then, they go on in a
/// task of their own.
pub(super) async fn run_to_response<G>(
    guest: Pin<Box<G>>,
    head: oneshot::Receiver<ResponseHead>,
    guard: InvocationGuard,
    function: &Arc<Function>,
    invocation: u128,
    mut start: Start,
) -> Result<(Response, Start), InvokeError>
where
    G: Future<Output = Result<(), InvokeError>> + Send + 'static,
{
    let started = Instant::now();
    let mut run = GuestRun::new(guest, guard, function, invocation);
    let (parts, body) = run.head(head).await?.into_parts();
    check_head(&parts.headers)?;
    run.guard.state.add_phases(&mut start, started);
    let promised = content_length(&parts.headers)?;
    let state = Arc::clone(&run.guard.state);
    let mut body = CheckedBody::new(body, promised, function.limits(), state);
    let mut inline = InlineBody::default();
    let ended = run.collect(&mut body, &mut inline).await?;
    let body = if ended && run.finished && inline.trailers.is_none() {
        inline.into_full()
    } else {
        run.go_on((!ended).then_some(body), inline)
    };
    Ok((http::Response::from_parts(parts, body), start))
}

impl<'a, G> GuestRun<'a, G>
where
    G: Future<Output = Result<(), InvokeError>> + Send + 'static,
{
    fn new(
        guest: Pin<Box<G>>,
        guard: InvocationGuard,
        function: &'a Arc<Function>,
        invocation: u128,
    ) -> Self {
        let deadline = time::Instant::now() + function.limits().timeout;
        let guest = MeteredGuest::new(guest, Arc::clone(&guard.state));
        Self { guest, finished: false, guard, function, invocation, deadline }
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
                result.map(|()| head.try_recv().ok())
            }
            first = &mut head => Ok(first.ok()),
            () = time::sleep_until(self.deadline) => Err(InvokeError::Timeout(timeout)),
        }?;
        match first {
            Some(head) => head.map_err(InvokeError::NoResponse),
            None => Err(self.end_without_head().await),
        }
    }

    /// Why there is no head. Its sender is gone, but the guest may still run and end with an error.
    async fn end_without_head(&mut self) -> InvokeError {
        let ended = if self.finished {
            Ok(Ok(()))
        } else {
            time::timeout_at(self.deadline, &mut self.guest).await
        };
        match ended {
            Ok(Ok(())) => no_response("it returned without one"),
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
                let had = inline.len();
                if !ended && collect_body(body, inline, cx)? {
                    ended = true;
                }
                if self.finished {
                    return Poll::Ready(Ok(ended));
                }
                match Pin::new(&mut self.guest).poll(cx) {
                    Poll::Ready(Ok(())) => self.finished = true,
                    // Nothing has been sent, so the caller can be answered with the error.
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if inline.len() > had && inline.len() < INLINE_BYTES => {}
                    Poll::Pending => return Poll::Ready(Ok(ended)),
                }
            }
        })
        .await
    }

    /// Spawns the task in which the guest, and its `body` if that has not ended, go on. Returns the
    /// body of the response, which begins with what was collected.
    fn go_on(self, body: Option<CheckedBody>, mut inline: InlineBody) -> ResponseBody {
        let Self { guest, finished, guard, function, invocation, deadline } = self;
        let trailers = inline.trailers.take();
        // A complete body without trailers needs no pipe to the task.
        let complete = body.is_none() && trailers.is_none();
        let (full, begun) = if complete {
            (Some(inline.into_full()), BytesMut::new())
        } else {
            (None, inline.into_buffer())
        };
        let pipe = ResponsePipe::new(begun, &function.limits().guest);
        if body.is_none() {
            pipe.end(BodyEnd::Complete(trailers));
        }
        let state = Arc::clone(&guard.state);
        let task = ResponseTask {
            guest: (!finished).then_some(guest),
            guard: (!finished).then_some(guard),
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
    while inline.len() < INLINE_BYTES {
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
            Poll::Ready(Some(Err(error))) => return Err(body_failed(&error)),
        }
    }
    Ok(false)
}

/// Refuses header fields about the connection, which belongs to the gateway. The engine refuses all
/// of them but these.
fn check_head(headers: &HeaderMap) -> Result<(), InvokeError> {
    let ours = |name: &&HeaderName| **name == header::TE || **name == header::TRAILER;
    headers.keys().find(ours).map_or(Ok(()), |name| {
        Err(no_response(&format!("it sets the header `{name}`, which belongs to the gateway")))
    })
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

fn body_failed(error: &BodyError) -> InvokeError {
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
