//! Reads on when an answer comes before the end of its request's body.
//!
//! Many clients send the whole body before they read. If the gateway closed the connection, or reset
//! the stream, as soon as it does not need the rest, then their systems would report a broken
//! connection and discard the answer. So the rest is read and discarded, up to a limit of bytes, and
//! for a limited time after the answer.

use std::pin::pin;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::{runtime::Handle, sync::oneshot, time};

use crate::{config::LingerLimits, server::activity::ActiveRequest};

/// What is needed to read the rest of a body that was dropped before its end.
#[derive(Debug)]
pub(crate) struct Linger {
    /// The connection counts as active as long as the body is read.
    active: ActiveRequest,
    limits: LingerLimits,
    /// Resolves when the answer has left, or will not come.
    answered: oneshot::Receiver<()>,
    runtime: Handle,
    wanted: bool,
}

impl Linger {
    /// The sender must live as long as the answer. `expects` says that the client sends the body
    /// only if it is asked to.
    pub(crate) fn new(
        active: ActiveRequest,
        limits: LingerLimits,
        expects: bool,
    ) -> (oneshot::Sender<()>, Self) {
        let (answer, answered) = oneshot::channel();
        let wanted = limits.bytes > 0 && !expects;
        (answer, Self { active, limits, answered, runtime: Handle::current(), wanted })
    }

    /// Notes that the function has begun to read, so that the client sends the body.
    pub(crate) fn was_asked_for(&mut self) {
        self.wanted = self.limits.bytes > 0;
    }

    /// Reads the rest of `body` in a task of its own.
    pub(crate) fn discard<B>(self, body: B)
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
    {
        if self.wanted && !body.is_end_stream() {
            // The task ends at its limits, or with the connection.
            self.runtime.clone().spawn(self.discard_rest(body));
        }
    }

    async fn discard_rest<B: Body<Data = Bytes> + Unpin>(self, mut body: B) {
        let Self { active, limits, mut answered, .. } = self;
        let mut rest = pin!(discard(&mut body, limits.bytes));
        tokio::select! {
            biased;
            is_whole = rest.as_mut() => {
                // While the guest works, the client waits to send more.
                if !is_whole {
                    let _ = answered.await;
                }
            }
            _ = &mut answered => {
                let _lingering = active.linger();
                let _ = time::timeout(limits.time, rest).await;
            }
        }
    }
}

/// Reads `body` to its end, or to the end of so many bytes. Whether it has ended.
async fn discard<B: Body<Data = Bytes> + Unpin>(body: &mut B, bytes: u64) -> bool {
    let mut left = bytes;
    while let Some(Ok(frame)) = body.frame().await {
        let read = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(rest) = left.checked_sub(read) else { return false };
        left = rest;
    }
    true
}
