//! The gateway's threads, by what they do.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of the control plane: deploys wait for disks and child processes, not for these.
const CONTROL: usize = 2;
/// What is left after the drain is on blocking threads, and gets this long to end.
const LEFTOVERS: Duration = Duration::from_secs(2);

/// Every thread that runs tasks. Two planes that share none, so that no load on the data plane
/// keeps an operator from looking at it.
pub(crate) struct Runtimes {
    data: Runtime,
    control: Runtime,
}

impl Runtimes {
    /// Starts them, with so many for the data plane.
    pub(crate) fn start(data: usize) -> anyhow::Result<Self> {
        Ok(Self {
            data: runtime("mayfly-data", data)?,
            control: runtime("mayfly-control", CONTROL)?,
        })
    }

    /// Those that serve requests to functions.
    pub(crate) fn data(&self) -> &Handle {
        self.data.handle()
    }

    /// Those that serve everything else.
    pub(crate) fn control(&self) -> &Handle {
        self.control.handle()
    }

    /// Ends what still runs, in a bounded time.
    pub(crate) fn stop(self) {
        self.data.shutdown_timeout(LEFTOVERS);
        self.control.shutdown_timeout(LEFTOVERS);
    }
}

/// A runtime whose threads share their tasks.
fn runtime(name: &'static str, threads: usize) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("starting the threads of {name}"))
}
