//! The backends of this node: where the data of stores is.

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt as _, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use backend_embedded::{FILE_NAME, Memory, Sqlite, SqliteState};
use gateway_api::StoreBackend;
use runtime_pool::{KeyValue, Refused, StoreId};
use tokio::task;

use crate::{config::Config, telemetry::clock::now_ms};

/// The directory in the data directory that has the file of the embedded backend.
const STATE_DIR: &str = "state";

/// All backends.
#[derive(Debug)]
pub(crate) struct Backends {
    embedded: Arc<Sqlite>,
    memory: Arc<Memory>,
}

impl Backends {
    /// Opens the file of the embedded backend, and starts its threads.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let dir = config.data_dir.join(STATE_DIR);
        let embedded = Sqlite::open(&dir, Arc::new(now_ms))
            .with_context(|| format!("opening the stores in {}", dir.display()))?;
        let memory = Memory::new(Arc::new(now_ms), config.stores.memory_bytes);
        Ok(Self { embedded: Arc::new(embedded), memory: Arc::new(memory) })
    }

    pub(super) fn get(&self, backend: StoreBackend) -> Arc<dyn KeyValue> {
        match backend {
            StoreBackend::Embedded => Arc::<Sqlite>::clone(&self.embedded),
            StoreBackend::Memory => Arc::<Memory>::clone(&self.memory),
        }
    }

    /// The stores of which a backend has something over a restart, also of those that were deleted.
    pub(super) async fn kept(&self) -> Result<Vec<StoreId>, Refused> {
        self.embedded.stores().await
    }

    pub(super) fn state(&self) -> SqliteState {
        self.embedded.state()
    }

    /// Copies what a backend has over a restart into a directory that stands for the data directory. Returns the
    /// names of the files there.
    pub(super) async fn copy_into(&self, directory: PathBuf) -> io::Result<Vec<String>> {
        let embedded = Arc::clone(&self.embedded);
        let copied = task::spawn_blocking(move || {
            let state = directory.join(STATE_DIR);
            DirBuilder::new().mode(0o700).create(&state)?;
            embedded.copy_to(&state.join(FILE_NAME))?;
            Ok(vec![format!("{STATE_DIR}/{FILE_NAME}")])
        });
        copied.await.map_err(io::Error::other)?
    }

    /// Ends the threads after what waits.
    pub(super) async fn close(&self) {
        let embedded = Arc::clone(&self.embedded);
        // It waits for the disk. A panic has nothing to answer.
        let _ = task::spawn_blocking(move || embedded.close()).await;
    }
}

/// A backend by the name under which the database has it.
pub(super) fn by_name(name: &str) -> Option<StoreBackend> {
    [StoreBackend::Embedded, StoreBackend::Memory]
        .into_iter()
        .find(|backend| backend_name(*backend) == name)
}

pub(super) fn backend_name(backend: StoreBackend) -> &'static str {
    match backend {
        StoreBackend::Embedded => "embedded",
        StoreBackend::Memory => "memory",
    }
}
