//! The log of the process.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogFormat, LogsSection};

/// Changes the level of the log while the process runs.
pub(crate) struct LogLevel(Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send>);

impl LogLevel {
    pub(crate) fn set(&self, level: &str) -> anyhow::Result<()> {
        (self.0)(EnvFilter::try_new(level).context("the setting logs.level")?)
    }
}

/// Writes events of the configured level and above to standard error, as text or as JSON.
pub(crate) fn start(config: &LogsSection) -> anyhow::Result<LogLevel> {
    let filter = EnvFilter::try_new(&config.level).context("the setting logs.level")?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let (started, level) = if json {
        let builder = builder.json().with_filter_reloading();
        let handle = builder.reload_handle();
        let set = move |filter| Ok(handle.reload(filter)?);
        (builder.try_init(), LogLevel(Box::new(set)))
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        let set = move |filter| Ok(handle.reload(filter)?);
        (builder.try_init(), LogLevel(Box::new(set)))
    };
    started.map_err(|error| anyhow::anyhow!("starting the log: {error}"))?;
    Ok(level)
}
