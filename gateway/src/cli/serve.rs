//! `mayfly serve`: settings, threads, then the application.

use std::{path::PathBuf, process::ExitCode};

use super::{failure::Failure, settings};
use crate::{
    config::{Config, Flags},
    threads::Threads,
};

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
        let threads = Threads::start(config.server.worker_count())
            .map_err(|error| Failure::failed(format!("{error:#}")))?;
        let outcome = threads.control().block_on(crate::app::run(config, &threads));
        threads.stop();
        match outcome {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::failed(format!("{error:#}"))),
        }
    }
}
