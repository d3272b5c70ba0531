//! The task of a guest that continues after the head of its response.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time;

use crate::{
    Function, InvokeError, Limit,
    executor::request::BodyError,
    host::invocation_state::{InvocationState, MeteredGuest},
    invocation::{
        checked_body::CheckedBody,
        guard::InvocationGuard,
        progress_waker::ProgressWaker,
        response_pipe::{BodyEnd, ResponsePipe},
    },
    warm::reuse::Reusable,
};

/// Polls of a guest before its task yields to others: its writes may be very small. With four times
/// as many, a hundred guests that write single bytes kept others waiting for seconds.
pub(super) const POLLS_MAX: usize = 64;

/// A guest that continues after the head of its response. The body owns the task and aborts it when
/// it is dropped before its end.
pub(super) struct ResponseTask<G> {
    /// The guest, until it has ended.
    pub(super) guest: Option<MeteredGuest<G>>,
    /// Held as long as the guest.
    pub(super) guard: Option<InvocationGuard>,
    /// Whether the client gets nothing of what the guest still writes.
    pub(super) complete: bool,
    /// The instance, once the guest has ended, if it may serve another call.
    pub(super) reusable: Option<Reusable>,
    /// Whether nothing has failed yet.
    pub(super) ended_well: bool,
    /// The body of the response, until it has ended.
    pub(super) body: Option<CheckedBody>,
    pub(super) pipe: Arc<ResponsePipe>,
    pub(super) deadline: time::Instant,
    pub(super) function: Arc<Function>,
    pub(super) state: Arc<InvocationState>,
    pub(super) waker: Arc<ProgressWaker>,
    pub(super) invocation: u128,
}

impl<G: Future<Output = Result<Option<Reusable>, InvokeError>>> ResponseTask<G> {
    pub(super) async fn run(mut self) {
        let after_response = self.function.limits().guest.after_response;
        let mut deadline = self.deadline;
        while self.guest.is_some() || self.body.is_some() {
            let was_open = self.body.is_some();
            let is_owed = was_open && !self.complete;
            if !is_owed {
                // The response is complete, and the guest has a little time to end by itself.
                deadline = deadline.min(time::Instant::now() + after_response);
            }
            let ended = poll_fn(|cx| self.poll_until(cx, was_open));
            match time::timeout_at(deadline, ended).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.fail(&error.to_string(), error.limit()),
                Err(_) if is_owed => {
                    self.fail("the wall-clock limit has passed (timeout_ms)", Some(Limit::Timeout));
                    break;
                }
                Err(_) => {
                    self.function.statistics.metrics.limit_ended(Limit::AfterResponse);
                    let why = format!(
                        "the guest was stopped {after_response:?} after its response \
                         (guests.after_response_ms)"
                    );
                    self.function.template.log().system(self.invocation, &why);
                    break;
                }
            }
        }
    }

    fn fail(&mut self, why: &str, limit: Option<Limit>) {
        if let Some(limit) = limit {
            self.function.statistics.metrics.limit_ended(limit);
        }
        self.ended_well = false;
        self.state.outcome.fail();
        let log = self.function.template.log();
        let what = if self.complete || self.body.is_none() {
            "the guest failed after its response"
        } else {
            "the response was aborted"
        };
        log.system(self.invocation, &format!("{what}: {why}"));
    }

    /// Polls the guest and its body until both have ended. If the body `was_open`, returns when it
    /// ends: then another deadline holds for the guest.
    fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        was_open: bool,
    ) -> Poll<Result<(), InvokeError>> {
        let waker = self.waker.waker(cx.waker());
        let cx = &mut Context::from_waker(&waker);
        for _ in 0..POLLS_MAX {
            self.waker.reset();
            if let Some(guest) = &mut self.guest
                && let Poll::Ready(result) = Pin::new(guest).poll(cx)
            {
                self.guest = None;
                // Before the slot is free, so that the next call finds the instance.
                let ended = result.map(|reusable| self.take_back(reusable));
                self.guard = None;
                return Poll::Ready(ended);
            }
            // After the guest, so that its latest output is passed on at once.
            let wrote = self.poll_body(cx);
            if self.body.is_some() && self.guest.is_none() {
                // Whatever could still write into the body ends with the instance.
                self.reusable = None;
            }
            if self.body.is_none() && (was_open || self.guest.is_none()) {
                return Poll::Ready(Ok(()));
            }
            // A guest that computes may not write again for long: what it has written must not wait.
            let computes = self.guest.is_some() && self.state.was_interrupted();
            if computes || !(wrote || self.waker.was_woken()) {
                self.pipe.flush();
            }
            if computes || !wrote {
                return Poll::Pending;
            }
        }
        // Yields to the other tasks of this thread.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Keeps an instance whose guest has ended, if the response has ended, too, and well. Holds it for
    /// that moment if the response goes on.
    fn take_back(&mut self, reusable: Option<Reusable>) {
        let Some(reusable) = reusable else { return };
        if self.body.is_some() {
            self.reusable = Some(reusable);
        } else if self.ended_well {
            self.function.warm.keep(reusable);
        }
    }

    /// Passes on what the guest has written. Returns whether it has written anything.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> bool {
        let mut wrote = false;
        while let Some(body) = &mut self.body {
            // Once the guest has ended, the rest of its body is small and need not wait for room.
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
                    Err(frame) => BodyEnd::Complete(frame.into_trailers().ok()),
                },
                Poll::Ready(None) => BodyEnd::Complete(None),
                Poll::Ready(Some(Err(error))) => {
                    if let Some(why) = body.why() {
                        let log = self.function.template.log();
                        log.system(self.invocation, &format!("the response was aborted: {why}"));
                    }
                    BodyEnd::Aborted(error)
                }
            };
            self.body = None;
            // The client has its whole response already, so only the log can tell.
            if let (true, BodyEnd::Aborted(BodyError::Limit(limit))) = (self.complete, &end) {
                let limit = *limit;
                self.fail(&BodyError::Limit(limit).to_string(), Some(limit));
            }
            self.ended_well &= matches!(end, BodyEnd::Complete(_));
            // Before the client knows, so that its next call finds the instance.
            let reusable = self.reusable.take();
            self.take_back(reusable);
            self.pipe.end(end);
        }
        wrote
    }
}

impl<G> Drop for ResponseTask<G> {
    fn drop(&mut self) {
        // The guest ends before the pipe does, so that it writes nothing more.
        self.guest = None;
        // Also after a panic: the client waits for the rest. Has no effect if the body has ended.
        self.pipe.end(BodyEnd::Aborted(BodyError::Function));
    }
}
