//! What systemd, or whoever else starts the gateway in its way, gives us and wants to know.
//!
//! Without it nothing here does anything.

use std::{net::TcpListener, sync::Arc};

use anyhow::Context as _;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::{runtime::Handle, sync::Notify, task::JoinSet, time};

/// Sockets that somebody else has bound: the data plane's, then the control plane's.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) data: Option<TcpListener>,
    pub(crate) control: Option<TcpListener>,
}

impl Sockets {
    /// Takes them over; none if none were passed (`LISTEN_FDS`).
    pub(crate) fn take() -> anyhow::Result<Self> {
        let mut sockets = ListenFd::from_env();
        let mut next = |index| {
            if index >= sockets.len() {
                return Ok(None);
            }
            sockets.take_tcp_listener(index).with_context(|| {
                format!("the socket that was passed as number {index} is no TCP listener")
            })
        };
        Ok(Self { data: next(0)?, control: next(1)? })
    }
}

/// Requests are answered from here on.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// No more requests should come.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The settings are being read again. Followed by [`ready`].
pub(crate) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// Keeps the watchdog quiet for as long as both planes run tasks. Ends at once if there is none.
pub(crate) fn watchdog(tasks: &mut JoinSet<()>, data: &Handle, control: &Handle) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let alive = Arc::new(Notify::new());
    let data = data.clone();
    tasks.spawn_on(
        async move {
            let mut tick = time::interval(patience / 2);
            loop {
                tick.tick().await;
                let answer = Arc::clone(&alive);
                data.spawn(async move { answer.notify_one() });
                alive.notified().await;
                tell(&[NotifyState::Watchdog]);
            }
        },
        control,
    );
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "telling the service manager how the gateway is");
    }
}
