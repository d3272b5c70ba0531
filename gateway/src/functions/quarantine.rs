//! Damaged artifacts: put aside as soon as somebody finds that one is, and said loudly.
//!
//! Whoever finds it may be serving a request, and must not wait for the disk: the check and the
//! removal are done by a task of the control plane.

use std::sync::Arc;

use prometheus::{IntCounter, Registry};
use runtime_pool::LoadError;
use store::{Digest, Store};
use tokio::{runtime::Handle, sync::mpsc};

/// Findings that may wait to be looked at. One that finds no room is made again by the next call.
const WAITING: usize = 64;

/// Where damage is reported.
#[derive(Debug)]
pub(crate) struct Quarantine {
    found: mpsc::Sender<Digest>,
}

impl Quarantine {
    /// Starts the task that looks at what is reported. It ends with the last who could report.
    pub(crate) fn start(
        registry: &Registry,
        store: Store,
        control: &Handle,
    ) -> prometheus::Result<Arc<Self>> {
        let damaged = IntCounter::new(
            "mayfly_artifacts_damaged_total",
            "Artifacts that were found damaged on disk and were put aside",
        )?;
        registry.register(Box::new(damaged.clone()))?;
        let (found, reports) = mpsc::channel(WAITING);
        control.spawn(put_aside(store, reports, damaged));
        Ok(Arc::new(Self { found }))
    }

    /// Has an artifact looked at, if `error` says that it is damaged.
    pub(crate) fn suspect(&self, error: &LoadError, digest: Digest) {
        if matches!(error, LoadError::Damaged) {
            self.report(digest);
        }
    }

    /// Has an artifact looked at.
    pub(crate) fn report(&self, digest: Digest) {
        // Full: others are being looked at, and this one will be found again.
        let _ = self.found.try_send(digest);
    }
}

async fn put_aside(store: Store, mut reports: mpsc::Receiver<Digest>, damaged: IntCounter) {
    while let Some(digest) = reports.recv().await {
        match store.quarantine(&digest).await {
            Ok(true) => {
                damaged.inc();
                tracing::error!(
                    %digest,
                    "an artifact was damaged on disk, and was put into quarantine/; deploying the \
                     same bytes again mends its functions"
                );
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%digest, %error, "putting aside a damaged artifact"),
        }
    }
}
