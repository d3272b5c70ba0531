//! `mayfly serve`: runs the gateway.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    app::{StartOptions, runtimes::Runtimes, systemd::Sockets},
    cli::{commands::node::settings, failure::Failure},
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
        // Read once: a reload sees the environment of the start.
        let environment = Config::environment().map_err(|error| settings::wrong(&error))?;
        let load = move || Config::load(file.as_deref(), environment.clone().into_iter(), &flags);
        let config = load().map_err(|error| settings::wrong(&error))?;
        // Before any thread starts: this removes variables from the environment.
        let sockets = Sockets::take().map_err(|error| Failure::failed(format!("{error:#}")))?;
        let runtimes = Runtimes::start(config.server.admission.worker_count())
            .map_err(|error| Failure::failed(format!("{error:#}")))?;
        let options = StartOptions { config, load: Box::new(load), sockets };
        let outcome = runtimes.control().block_on(crate::app::run(options, &runtimes));
        runtimes.stop();
        match outcome {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) if crate::app::is_exposed(&error) => {
                Err(Failure::usage(format!("{error:#}")))
            }
            Err(error) => Err(Failure::failed(format!("{error:#}"))),
        }
    }
}
