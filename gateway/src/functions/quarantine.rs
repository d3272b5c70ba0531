//! Moves damaged artifacts out of the way, and logs each as an error.
//!
//! Damage can be found while a request is served, which must not wait for the disk: a task of the
//! control plane verifies the artifact and moves it.

use std::sync::Arc;

use prometheus::{IntCounter, Registry};
use runtime_pool::LoadError;
use store::{Digest, Store};
use tokio::{runtime::Handle, sync::mpsc};

/// Reports that may wait. A report that does not fit is lost; the next call reports again.
const REPORTS: usize = 64;

/// Takes reports of damage.
#[derive(Debug)]
pub(crate) struct Quarantine {
    reports: mpsc::Sender<Digest>,
}

impl Quarantine {
    /// Starts the task that handles reports. It ends when the last handle is dropped.
    pub(crate) fn start(
        registry: &Registry,
        store: Store,
        control: &Handle,
    ) -> prometheus::Result<Arc<Self>> {
        let damaged = IntCounter::new(
            "mayfly_artifacts_damaged_total",
            "Artifacts that were damaged on disk and were moved to quarantine/",
        )?;
        registry.register(Box::new(damaged.clone()))?;
        let (reports, reported) = mpsc::channel(REPORTS);
        control.spawn(move_damaged(store, reported, damaged));
        Ok(Arc::new(Self { reports }))
    }

    /// Reports an artifact if `error` is about damage.
    pub(crate) fn suspect(&self, error: &LoadError, digest: Digest) {
        if matches!(error, LoadError::Damaged) {
            self.report(digest);
        }
    }

    /// Reports an artifact that may be damaged.
    pub(crate) fn report(&self, digest: Digest) {
        // Fails if there are too many reports: the next call reports again.
        let _ = self.reports.try_send(digest);
    }
}

async fn move_damaged(store: Store, mut reported: mpsc::Receiver<Digest>, damaged: IntCounter) {
    while let Some(digest) = reported.recv().await {
        match store.quarantine(&digest).await {
            Ok(true) => {
                damaged.inc();
                tracing::error!(
                    %digest,
                    "an artifact was damaged on disk and was moved to quarantine/; deploy the same \
                     bytes again to repair its functions"
                );
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%digest, %error, "moving a damaged artifact to quarantine/")
            }
        }
    }
}
