//! A guest that has answered and goes on, in a task of its own.

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
    host::invocation_state::{InvocationState, Metered},
    invocation::{
        checked_body::CheckedBody,
        guard::InvocationGuard,
        progress_waker::ProgressWaker,
        response_pipe::{BodyEnd, Pipe},
    },
};

/// How often a guest is polled before others get their turn: its writes may be very small. With four
/// times as many, a hundred guests that write single bytes kept others waiting for seconds.
const TURNS: usize = 64;

/// A guest that has answered and goes on. Owned by the body: dropping that aborts the task.
pub(super) struct ResponseTask<G> {
    /// The guest, until it has ended.
    pub(super) guest: Option<Metered<G>>,
    /// What it holds, as long.
    pub(super) guard: Option<InvocationGuard>,
    /// What it writes, until that has ended.
    pub(super) body: Option<CheckedBody>,
    pub(super) pipe: Arc<Pipe>,
    pub(super) deadline: time::Instant,
    pub(super) function: Arc<Function>,
    pub(super) state: Arc<InvocationState>,
    pub(super) waker: Arc<ProgressWaker>,
    pub(super) invocation: u128,
}

impl<G: Future<Output = Result<(), InvokeError>>> ResponseTask<G> {
    pub(super) async fn run(mut self) {
        let after_response = self.function.limits().guest.after_response;
        let mut deadline = self.deadline;
        while self.guest.is_some() || self.body.is_some() {
            let was_open = self.body.is_some();
            if !was_open {
                // The response is complete; the guest has a moment to end by itself.
                deadline = deadline.min(time::Instant::now() + after_response);
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
                    self.function.statistics.metrics.limit_ended(Limit::AfterResponse);
                    let why = format!(
                        "it was ended {after_response:?} after its response \
                         (guests.after_response_ms)"
                    );
                    self.function.template.log().system(self.invocation, &why);
                    break;
                }
            }
        }
    }

    fn fail(&self, why: &str, limit: Option<Limit>) {
        if let Some(limit) = limit {
            self.function.statistics.metrics.limit_ended(limit);
        }
        self.state.outcome.fail();
        let log = self.function.template.log();
        log.system(self.invocation, &format!("the response broke off: {why}"));
    }

    /// Goes on until the guest and its body have ended; or only one of them, if that is the body
    /// and it `was_open`, because then another deadline holds.
    fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        was_open: bool,
    ) -> Poll<Result<(), InvokeError>> {
        let waker = self.waker.waker(cx.waker());
        let cx = &mut Context::from_waker(&waker);
        for _ in 0..TURNS {
            self.waker.begin();
            if let Some(guest) = &mut self.guest
                && let Poll::Ready(result) = Pin::new(guest).poll(cx)
            {
                self.guest = None;
                self.guard = None;
                return Poll::Ready(result);
            }
            // After the guest: what it has just written is not left to lie.
            let wrote = self.poll_body(cx);
            if self.body.is_none() && (was_open || self.guest.is_none()) {
                return Poll::Ready(Ok(()));
            }
            // What a guest that computes does not write for long must not wait.
            let computes = self.guest.is_some() && self.state.was_interrupted();
            if computes || !(wrote || self.waker.woken()) {
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
