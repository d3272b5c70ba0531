//! Notices clients that have left without a word.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{self, Instant, Sleep};

use crate::server::activity::Activity;

/// Sends pings while the client is silent.
pub(crate) struct KeepAlive {
    pings: PingPong,
    activity: Arc<Activity>,
    /// A client that is silent for so long is sent a ping, and has as long to answer.
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    /// Whether a ping has no answer yet.
    has_asked: bool,
}

impl KeepAlive {
    pub(crate) fn new(pings: PingPong, activity: Arc<Activity>, interval: Duration) -> Self {
        Self { pings, activity, interval, timer: Box::pin(time::sleep(interval)), has_asked: false }
    }

    /// Ready when the client has been silent for too long. It may send whatever it likes: the answer
    /// to a ping may wait behind much of a body.
    pub(crate) fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.has_asked && self.pings.poll_pong(cx).is_ready() {
                self.has_asked = false;
                self.activity.has_heard();
                self.timer.as_mut().reset(Instant::now() + self.interval);
            }
            ready!(self.timer.as_mut().poll(cx));
            if !self.activity.has_heard() {
                if self.has_asked {
                    return Poll::Ready(());
                }
                // It fails only when the connection is about to end.
                self.has_asked = self.pings.send_ping(Ping::opaque()).is_ok();
            }
            self.timer.as_mut().reset(Instant::now() + self.interval);
        }
    }
}
