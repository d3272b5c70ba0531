//! The process's own log and metrics.

pub(crate) mod guest_logs;
pub(crate) mod request_id;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use prometheus::{
    IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::runtime::Handle;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogFormat, LogsSection};

/// Changes which events are written.
pub(crate) struct LogLevel(Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send>);

impl LogLevel {
    pub(crate) fn set(&self, level: &str) -> anyhow::Result<()> {
        (self.0)(EnvFilter::try_new(level).context("the setting logs.level")?)
    }
}

/// Sends events of `level` and above to standard error, for people or for machines.
pub(crate) fn start_log(config: &LogsSection) -> anyhow::Result<LogLevel> {
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

/// A registry that knows what is running.
pub(crate) fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let build = IntGauge::with_opts(
        Opts::new("mayfly_build_info", "Always 1; the label says which version runs")
            .const_label("version", env!("CARGO_PKG_VERSION")),
    )?;
    build.set(1);
    registry.register(Box::new(build))?;
    Ok(registry)
}

/// Tasks that are alive, counted by their runtime when somebody looks.
pub(crate) struct Tasks {
    alive: IntGaugeVec,
    runtimes: Vec<(&'static str, Handle)>,
}

impl Tasks {
    /// Tasks of these runtimes, each with its name.
    pub(crate) fn of(runtimes: Vec<(&'static str, Handle)>) -> prometheus::Result<Self> {
        let options = Opts::new("mayfly_tasks", "Tasks that are alive, by the threads they run on");
        Ok(Self { alive: IntGaugeVec::new(options, &["threads"])?, runtimes })
    }
}

impl Collector for Tasks {
    fn desc(&self) -> Vec<&Desc> {
        self.alive.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (name, runtime) in &self.runtimes {
            let alive = runtime.metrics().num_alive_tasks();
            self.alive.with_label_values(&[name]).set(alive as i64);
        }
        self.alive.collect()
    }
}
