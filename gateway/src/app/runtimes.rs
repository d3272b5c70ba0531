//! The runtimes: one for each plane.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of the control plane. Few: deploys wait for disks and child processes.
const CONTROL: usize = 2;
/// The time for blocking tasks to end after the drain.
const LEFTOVERS: Duration = Duration::from_secs(2);

/// The runtimes of both planes. They share no thread, so that the control plane answers under any
/// load of the data plane.
pub(crate) struct Runtimes {
    data: Runtime,
    control: Runtime,
}

impl Runtimes {
    /// Starts both, with `data` threads for the data plane.
    pub(crate) fn start(data: usize) -> anyhow::Result<Self> {
        Ok(Self {
            data: runtime("mayfly-data", data)?,
            control: runtime("mayfly-control", CONTROL)?,
        })
    }

    /// The runtime of requests to functions.
    pub(crate) fn data(&self) -> &Handle {
        self.data.handle()
    }

    /// The runtime of everything else.
    pub(crate) fn control(&self) -> &Handle {
        self.control.handle()
    }

    /// Stops both. Tasks that still run get a bounded time to end.
    pub(crate) fn stop(self) {
        self.data.shutdown_timeout(LEFTOVERS);
        self.control.shutdown_timeout(LEFTOVERS);
    }
}

/// A runtime with work-stealing threads.
fn runtime(name: &'static str, threads: usize) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("starting the threads of {name}"))
}
