//! `mayfly config`: the settings that `mayfly serve` would use.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    cli::{
        client::transport::causes,
        failure::Failure,
        output::{print, print_line},
        printable::printable,
    },
    config::{Config, ConfigError, Flags, LayeredSettings, SettingOrigin},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SettingsCommand {
    /// Check the settings; the exit code is 0, or 2 with an error message
    Check(CheckConfig),
    /// Print all settings as TOML, each with its source
    Show(ShowConfig),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckConfig {
    /// Settings file [default: MAYFLY_CONFIG]
    #[arg(value_name = "FILE", env = "MAYFLY_CONFIG")]
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowConfig {
    /// Settings file
    #[arg(long, value_name = "FILE", env = "MAYFLY_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl SettingsCommand {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Check(CheckConfig { file, flags }) => {
                let settings = read(file.as_deref(), &flags)?;
                settings.clone().into_config().map_err(|error| wrong(&error))?;
                let set =
                    settings.iter().filter(|(_, s)| s.origin != SettingOrigin::Default).count();
                let source = file.map_or_else(
                    || "no settings file".to_owned(),
                    |path| printable(&path.to_string_lossy()).into_owned(),
                );
                let settings = if set == 1 { "setting" } else { "settings" };
                print_line(&format!("{source}: ok, {set} {settings} given"))?;
            }
            Self::Show(ShowConfig { config, flags }) => {
                print(read(config.as_deref(), &flags)?.to_toml().as_bytes())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read(file: Option<&std::path::Path>, flags: &Flags) -> Result<LayeredSettings, Failure> {
    Config::environment()
        .and_then(|environment| LayeredSettings::read(file, environment.into_iter(), flags))
        .map_err(|error| wrong(&error))
}

/// The failure for wrong settings: exit code 2.
pub(crate) fn wrong(error: &ConfigError) -> Failure {
    Failure::usage(causes(error))
}
