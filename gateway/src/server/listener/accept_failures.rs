//! Accepts that fail: they fail many times a second while they do.

use std::{io, time::Duration};

use tokio::time::{self, Instant};

/// Pause after an accept that failed: without file descriptors the next one fails, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Pause between two log lines about failed accepts.
const ACCEPT_LOG_PAUSE: Duration = Duration::from_secs(10);

/// Logs failed accepts rarely, and waits after each.
#[derive(Default)]
pub(crate) struct AcceptFailures {
    logged: Option<Instant>,
}

impl AcceptFailures {
    pub(crate) async fn pause(&mut self, error: &io::Error) {
        if self.logged.is_none_or(|logged| logged.elapsed() >= ACCEPT_LOG_PAUSE) {
            self.logged = Some(Instant::now());
            tracing::warn!(%error, "accepting a connection failed");
        }
        time::sleep(ACCEPT_PAUSE).await;
    }
}
