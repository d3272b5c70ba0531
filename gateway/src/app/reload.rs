//! Settings that change while the gateway runs: on SIGHUP the limits, ceilings and quotas, the
//! log's level and the certificates, and the certificates also when their files change.

use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_api::FunctionLimit;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::{
    signal::unix::Signal,
    time::{self, MissedTickBehavior},
};

use crate::{
    app::systemd,
    config::{Config, ConfigError, Numbers},
    functions::deploy::{Deployer, error::DeployError},
    server::{CERTIFICATE_CHECK_INTERVAL, Tls},
    telemetry::log::LogLevel,
};

/// Reads the settings as they were read at the start.
pub(crate) type Load = Box<dyn Fn() -> Result<Config, ConfigError> + Send>;

/// What may change, and where it comes from.
pub(crate) struct Reload {
    pub(crate) load: Load,
    /// What holds.
    pub(crate) config: Config,
    pub(crate) log: LogLevel,
    pub(crate) certificates: Vec<Arc<Tls>>,
    pub(crate) deployer: Deployer,
    /// What the API shows of what holds.
    pub(crate) limits: Arc<ArcSwap<Numbers>>,
    /// The largest memory that the engines have room for: no ceiling can rise above it.
    pub(crate) reserved_bytes: u64,
    pub(crate) metrics: ReloadMetrics,
}

/// How often it was tried, and how that went.
#[derive(Debug)]
pub(crate) struct ReloadMetrics {
    ok: IntCounter,
    failed: IntCounter,
}

impl ReloadMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let reloads = IntCounterVec::new(
            Opts::new(
                "mayfly_reloads_total",
                "Times that settings or certificates were read again, by outcome",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(reloads.clone()))?;
        let outcome = |outcome| reloads.with_label_values(&[outcome]);
        Ok(Self { ok: outcome("ok"), failed: outcome("failed") })
    }
}

impl Reload {
    /// Reloads whenever there is a reason, for ever.
    pub(crate) async fn run(mut self, mut hang_up: Signal) {
        let mut check = time::interval(CERTIFICATE_CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = hang_up.recv() => {
                    systemd::reloading();
                    // Boxed, as all settings are part of it.
                    Box::pin(self.settings()).await;
                    self.certificates(|_| true);
                    systemd::ready();
                }
                _ = check.tick() => self.certificates(Tls::has_changed),
            }
        }
    }

    async fn settings(&mut self) {
        let config = match (self.load)() {
            Ok(config) => config,
            Err(error) => {
                self.metrics.failed.inc();
                let error = anyhow::Error::new(error);
                tracing::error!(error = format!("{error:#}"), "the settings stay as they were");
                return;
            }
        };
        if let Err(error) = self.limits(&config).await {
            self.metrics.failed.inc();
            let error = anyhow::Error::new(error);
            tracing::error!(error = format!("{error:#}"), "the settings stay as they were");
            return;
        }
        if let Err(error) = self.log.set(&config.logs.level) {
            self.metrics.failed.inc();
            tracing::error!(error = format!("{error:#}"), "the log's level stays as it was");
            return;
        }
        self.config.logs.level.clone_from(&config.logs.level);
        let later = self.config.differences(&config);
        if later.is_empty() {
            tracing::info!("the settings were read again");
        } else {
            tracing::warn!(settings = later.join(", "), "these change at the next start");
        }
        self.metrics.ok.inc();
    }

    /// Lets the limits that `config` has hold, as far as they can change.
    async fn limits(&mut self, config: &Config) -> Result<(), DeployError> {
        let mut held = self.config.clone();
        held.limits.clone_from(&config.limits);
        held.ceilings.clone_from(&config.ceilings);
        held.quotas.clone_from(&config.quotas);
        for limits in [&mut held.limits, &mut held.ceilings] {
            let memory_bytes = &mut limits[FunctionLimit::MemoryBytes];
            *memory_bytes = self.reserved_bytes.min(*memory_bytes);
        }
        if held != self.config {
            self.deployer.set_limits(&held).await?;
            self.limits.store(Arc::new(held.numbers()));
            self.config = held;
        }
        Ok(())
    }

    fn certificates(&self, wanted: impl Fn(&Tls) -> bool) {
        for tls in self.certificates.iter().filter(|tls| wanted(tls)) {
            match tls.reload() {
                Ok(()) => {
                    self.metrics.ok.inc();
                    tracing::info!("a certificate was read again");
                }
                Err(error) => {
                    self.metrics.failed.inc();
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the certificate stays as it was"
                    );
                }
            }
        }
    }
}
