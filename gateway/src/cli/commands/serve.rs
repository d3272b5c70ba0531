//! `mayfly serve`: settings, threads, then the application.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    app::{StartOptions, runtimes::Runtimes, systemd::Sockets},
    cli::{commands::settings, failure::Failure},
    config::{Config, Flags},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Settings file
    #[arg(long, value_name = "FILE", env = "MAYFLY_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl Serve {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let Self { config: file, flags } = self;
        // The environment stays what it was at the start, whoever reads the settings again.
        let environment = Config::environment().map_err(|error| settings::wrong(&error))?;
        let load = move || Config::load(file.as_deref(), environment.clone().into_iter(), &flags);
        let config = load().map_err(|error| settings::wrong(&error))?;
        // Before there are threads: sockets that were passed are taken from the environment.
        let sockets = Sockets::take().map_err(|error| Failure::failed(format!("{error:#}")))?;
        let threads = Runtimes::start(config.server.admission.worker_count())
            .map_err(|error| Failure::failed(format!("{error:#}")))?;
        let given = StartOptions { config, load: Box::new(load), sockets };
        let outcome = threads.control().block_on(crate::app::run(given, &threads));
        threads.stop();
        match outcome {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::failed(format!("{error:#}"))),
        }
    }
}
