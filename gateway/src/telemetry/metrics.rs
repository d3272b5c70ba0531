//! The registry of metrics, and those that belong to the whole process.

use prometheus::{
    IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::runtime::Handle;

/// A registry with the version that runs.
pub(crate) fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let build = IntGauge::with_opts(
        Opts::new("mayfly_build_info", "Always 1; the label has the version that runs")
            .const_label("version", env!("CARGO_PKG_VERSION")),
    )?;
    build.set(1);
    registry.register(Box::new(build))?;
    Ok(registry)
}

/// Counts the tasks of each runtime whenever metrics are read.
pub(crate) struct Tasks {
    alive: IntGaugeVec,
    runtimes: Vec<(&'static str, Handle)>,
}

impl Tasks {
    /// Counts the tasks of `runtimes`, each with the value of its label.
    pub(crate) fn of(runtimes: Vec<(&'static str, Handle)>) -> prometheus::Result<Self> {
        let options = Opts::new("mayfly_tasks", "Live tasks, by the threads on which they run");
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
