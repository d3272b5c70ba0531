//! `mayfly serve`: settings, two runtimes, then the application.

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use tokio::runtime::{Builder, Runtime};

use super::{failure::Failure, settings};
use crate::config::{Config, Flags};

/// Threads of the control plane: deploys wait for disks and child processes, not for these.
const CONTROL_WORKERS: usize = 2;

/// What is left after the drain is on blocking threads, and gets this long to end.
const LEFTOVERS: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// Settings file
    #[arg(long, value_name = "FILE", env = "MAYFLY_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = Config::environment()
            .and_then(|environment| {
                Config::load(self.config.as_deref(), environment.into_iter(), &self.flags)
            })
            .map_err(|error| settings::wrong(&error))?;
        // Two runtimes, so that no load on the data plane keeps an operator from looking at it.
        let data = runtime("mayfly-data", config.server.worker_count())?;
        let control = runtime("mayfly-control", CONTROL_WORKERS)?;
        let running = crate::app::run(config, data.handle().clone(), control.handle().clone());
        let outcome = control.block_on(running);
        data.shutdown_timeout(LEFTOVERS);
        control.shutdown_timeout(LEFTOVERS);
        match outcome {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::failed(format!("{error:#}"))),
        }
    }
}

fn runtime(name: &str, workers: usize) -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(|error: io::Error| {
            Failure::failed(format!("starting the threads of {name}: {error}"))
        })
}
