//! The registry of metrics, and those that belong to the whole process.

use prometheus::{
    IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::runtime::Handle;

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
