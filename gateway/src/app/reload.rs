//! Reloads settings while the gateway runs. SIGHUP reloads the limits, ceilings, quotas, the log's
//! level and the certificates; certificates are also reloaded when their files change.

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

/// Reads the settings from the same sources as at the start.
pub(crate) type Load = Box<dyn Fn() -> Result<Config, ConfigError> + Send>;

/// The parts that a reload changes.
pub(crate) struct Reload {
    pub(crate) load: Load,
    /// The settings in effect.
    pub(crate) config: Config,
    pub(crate) log: LogLevel,
    pub(crate) certificates: Vec<Arc<Tls>>,
    pub(crate) deployer: Deployer,
    /// The limits in effect, as the API shows them.
    pub(crate) limits: Arc<ArcSwap<Numbers>>,
    /// The memory of an instance for which the engines have reserved address space. No limit can
    /// rise above it.
    pub(crate) reserved_bytes: u64,
    pub(crate) metrics: ReloadMetrics,
}

/// The metric of reloads.
#[derive(Debug)]
pub(crate) struct ReloadMetrics {
    ok: IntCounter,
    failed: IntCounter,
}

impl ReloadMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let reloads = IntCounterVec::new(
            Opts::new("mayfly_reloads_total", "Reloads of settings or certificates, by outcome"),
            &["outcome"],
        )?;
        registry.register(Box::new(reloads.clone()))?;
        let outcome = |outcome| reloads.with_label_values(&[outcome]);
        Ok(Self { ok: outcome("ok"), failed: outcome("failed") })
    }
}

impl Reload {
    /// Reloads at each signal and each change of a certificate's files. Never ends.
    pub(crate) async fn run(mut self, mut hang_up: Signal) {
        let mut check = time::interval(CERTIFICATE_CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = hang_up.recv() => {
                    systemd::reloading();
                    // Boxed: the future contains all settings.
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
                tracing::error!(error = format!("{error:#}"), "the settings were not reloaded");
                return;
            }
        };
        if let Err(error) = self.limits(&config).await {
            self.metrics.failed.inc();
            let error = anyhow::Error::new(error);
            tracing::error!(error = format!("{error:#}"), "the settings were not reloaded");
            return;
        }
        if let Err(error) = self.log.set(&config.logs.level) {
            self.metrics.failed.inc();
            tracing::error!(error = format!("{error:#}"), "the log's level was not changed");
            return;
        }
        self.config.logs.level.clone_from(&config.logs.level);
        let unchanged = self.config.differences(&config);
        if unchanged.is_empty() {
            tracing::info!("the settings were reloaded");
        } else {
            tracing::warn!(
                settings = unchanged.join(", "),
                "these settings change at the next start"
            );
        }
        self.metrics.ok.inc();
    }

    /// Applies the limits, ceilings and quotas of `config`.
    async fn limits(&mut self, config: &Config) -> Result<(), DeployError> {
        let mut next = self.config.clone();
        next.limits.clone_from(&config.limits);
        next.ceilings.clone_from(&config.ceilings);
        next.quotas.clone_from(&config.quotas);
        for limits in [&mut next.limits, &mut next.ceilings] {
            let memory_bytes = &mut limits[FunctionLimit::MemoryBytes];
            *memory_bytes = self.reserved_bytes.min(*memory_bytes);
        }
        if next != self.config {
            self.deployer.set_limits(&next).await?;
            self.limits.store(Arc::new(next.numbers()));
            self.config = next;
        }
        Ok(())
    }

    fn certificates(&self, wanted: impl Fn(&Tls) -> bool) {
        for tls in self.certificates.iter().filter(|tls| wanted(tls)) {
            match tls.reload() {
                Ok(()) => {
                    self.metrics.ok.inc();
                    tracing::info!("a certificate was reloaded");
                }
                Err(error) => {
                    self.metrics.failed.inc();
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the certificate was not reloaded"
                    );
                }
            }
        }
    }
}
