//! Judges automatic canaries: which goes on, which is promoted, which is rolled back.

use std::{sync::Arc, time::Duration};

use prometheus::{IntCounterVec, Opts, Registry};
use store::CanaryDecision;
use tokio::time;

use crate::functions::{
    catalog::Catalog,
    channels::meters::{CanaryMeter, Judged},
    deploy::Deployer,
};

/// The interval between two looks at all canaries. A step is judged once, however often it is looked
/// at; this only bounds how long it waits when it has its requests.
const INTERVAL: Duration = Duration::from_millis(500);

/// Judges canaries.
pub(crate) struct CanaryJudge {
    catalog: Arc<Catalog>,
    deployer: Deployer,
    decisions: IntCounterVec,
}

impl CanaryJudge {
    pub(crate) fn new(
        catalog: &Arc<Catalog>,
        deployer: &Deployer,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let decisions = IntCounterVec::new(
            Opts::new(
                "mayfly_canary_decisions_total",
                "Steps of automatic canaries that were judged, by what was decided",
            ),
            &["decision"],
        )?;
        registry.register(Box::new(decisions.clone()))?;
        Ok(Self { catalog: Arc::clone(catalog), deployer: deployer.clone(), decisions })
    }

    /// Judges canaries until it is dropped.
    pub(crate) async fn run(self) {
        let mut ticks = time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for meter in self.catalog.canaries() {
                if let Some(judged) = meter.judge() {
                    self.decide(&meter, judged).await;
                }
            }
        }
    }

    async fn decide(&self, meter: &CanaryMeter, judged: Judged) {
        let (function, channel) = (&meter.function.name, &meter.channel);
        let revision = meter.canary.revision;
        let decision = match judged.decision {
            CanaryDecision::Advance(_) => "advance",
            CanaryDecision::Promote => "promote",
            CanaryDecision::RollBack => "roll-back",
        };
        match self.deployer.decide_canary(meter, judged).await {
            Ok(true) => {
                meter.close();
                self.decisions.with_label_values(&[decision]).inc();
                tracing::info!(%function, channel, revision, decision, "judged a canary");
            }
            // Its owner has ended it meanwhile.
            Ok(false) => meter.close(),
            // The next look tries again.
            Err(error) => {
                tracing::error!(%error, %function, channel, revision, "judging a canary");
            }
        }
    }
}
