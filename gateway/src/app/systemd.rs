//! The protocols of systemd: socket activation, notifications and the watchdog.
//!
//! Does nothing if the process was not started with them.

use std::{net::TcpListener, sync::Arc};

use anyhow::Context as _;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::{runtime::Handle, sync::Notify, task::JoinSet, time};

/// Sockets that the service manager has bound: the data plane's, then the control plane's.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) data: Option<TcpListener>,
    pub(crate) control: Option<TcpListener>,
}

impl Sockets {
    /// Takes the sockets that were passed (`LISTEN_FDS`).
    pub(crate) fn take() -> anyhow::Result<Self> {
        let mut sockets = ListenFd::from_env();
        let mut next = |index| {
            if index >= sockets.len() {
                return Ok(None);
            }
            sockets.take_tcp_listener(index).with_context(|| {
                format!("the socket that was passed as number {index} is not a TCP listener")
            })
        };
        Ok(Self { data: next(0)?, control: next(1)? })
    }
}

/// Reports that the gateway answers requests.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reports that the gateway is stopping.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Reports that a reload has begun. [`ready`] reports its end.
pub(crate) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// Notifies the watchdog as long as both runtimes run tasks. Does nothing without a watchdog.
pub(crate) fn watchdog(tasks: &mut JoinSet<()>, data: &Handle, control: &Handle) {
    let Some(timeout) = sd_notify::watchdog_enabled() else { return };
    let alive = Arc::new(Notify::new());
    let data = data.clone();
    tasks.spawn_on(
        async move {
            let mut tick = time::interval(timeout / 2);
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
        tracing::warn!(%error, "notifying the service manager");
    }
}
