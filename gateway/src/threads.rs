//! The gateway's threads, by what they do.
//!
//! The data plane has one runtime for each of its threads instead of one for all: a connection
//! and its invocations never leave the thread that was given them, so that no thread wakes
//! another one and none frees what another one allocated.

use std::{convert::Infallible, io, sync::mpsc, thread, time::Duration};

use anyhow::Context as _;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::watch,
};

/// Threads of the control plane: deploys wait for disks and child processes, not for these.
const CONTROL: usize = 2;
/// What is left after the drain is on blocking threads, and gets this long to end.
const LEFTOVERS: Duration = Duration::from_secs(2);

/// Every thread that runs tasks. Two planes that share none, so that no load on the data plane
/// keeps an operator from looking at it.
pub(crate) struct Threads {
    /// Accepts the data plane's connections, which must not wait behind a guest.
    accept: Runtime,
    data: DataThreads,
    control: Runtime,
}

impl Threads {
    /// Starts them, with so many for the data plane.
    pub(crate) fn start(data: usize) -> anyhow::Result<Self> {
        Ok(Self {
            accept: shared("mayfly-accept", 1)?,
            data: DataThreads::start(data)?,
            control: shared("mayfly-control", CONTROL)?,
        })
    }

    pub(crate) fn accept(&self) -> &Handle {
        self.accept.handle()
    }

    pub(crate) fn data(&self) -> Vec<Handle> {
        self.data.handles.clone()
    }

    pub(crate) fn control(&self) -> &Handle {
        self.control.handle()
    }

    /// Ends what still runs, in a bounded time.
    pub(crate) fn stop(self) {
        self.accept.shutdown_timeout(LEFTOVERS);
        self.data.stop();
        self.control.shutdown_timeout(LEFTOVERS);
    }
}

/// A runtime whose threads share their tasks.
fn shared(name: &'static str, threads: usize) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("starting the threads of {name}"))
}

/// Runtimes of one thread each.
struct DataThreads {
    handles: Vec<Handle>,
    /// Dropped to stop them.
    stop: watch::Sender<()>,
    /// Disconnected when all have ended.
    ended: mpsc::Receiver<Infallible>,
}

impl DataThreads {
    fn start(count: usize) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(());
        let (alive, ended) = mpsc::channel();
        let handles = (0..count)
            .map(|_| start_one(stopped.clone(), alive.clone()))
            .collect::<io::Result<_>>()
            .context("starting the threads of mayfly-data")?;
        Ok(Self { handles, stop, ended })
    }

    fn stop(self) {
        drop(self.stop);
        // Nothing is ever sent. Who takes longer ends with the process.
        let _ = self.ended.recv_timeout(LEFTOVERS);
    }
}

fn start_one(
    mut stopped: watch::Receiver<()>,
    alive: mpsc::Sender<Infallible>,
) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().thread_name("mayfly-data").enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("mayfly-data".into()).spawn(move || {
        // Runs whatever is spawned on the runtime until the sender is gone.
        while runtime.block_on(stopped.changed()).is_ok() {}
        runtime.shutdown_timeout(LEFTOVERS);
        drop(alive);
    })?;
    Ok(handle)
}
