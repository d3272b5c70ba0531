//! The signals that stop the gateway, and the order in which it stops.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::app::{planes::Planes, systemd};

/// The signal that stops the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// SIGTERM, which programs send.
    Terminate,
    /// SIGINT, which a terminal sends for Ctrl-C.
    Interrupt,
}

/// The signals that stop the gateway.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Registers for the signals. From here on no signal is missed, and none ends the process by
    /// itself.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("waiting for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("waiting for SIGINT")?,
        })
    }

    async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Terminate,
            _ = self.interrupt.recv() => Stop::Interrupt,
        }
    }
}

/// Says that the gateway is ready, waits for a signal, then drains both planes. A second signal ends the drain. `unready` is the
/// time in which the gateway still takes requests, so that load balancers notice that it is not
/// ready.
pub(crate) async fn run_until_signal(
    mut signals: StopSignals,
    ready: &watch::Sender<bool>,
    planes: Planes,
    unready: Duration,
) -> anyhow::Result<()> {
    ready.send_replace(true);
    systemd::ready();
    let stop = signals.next().await;
    tracing::info!("stopping");
    systemd::stopping();
    ready.send_replace(false);
    // Ctrl-C comes from a terminal, where no load balancer has to notice anything.
    let pause = if stop == Stop::Terminate { unready } else { Duration::ZERO };
    tokio::select! {
        ended = planes.drain(pause) => Ok(ended?),
        _ = signals.next() => Ok(()),
    }
}
