//! Native code of another build: made anew in the background, so that no call has to wait for it.
//!
//! One artifact at a time, and only when nobody waits for the compiler. Whatever does not come to
//! an end here is compiled by the first call, or looked for by the next start.

use std::sync::Arc;

use prometheus::{IntGauge, Registry};
use runtime_pool::{FunctionSpec, LoadError, Pool};
use store::Digest;

use crate::{
    config::CompileSection,
    functions::{catalog::Catalog, quarantine::Quarantine},
};

/// What is to be compiled, with what.
pub(crate) struct Recompiler {
    catalog: Arc<Catalog>,
    pool: Arc<Pool>,
    quarantine: Arc<Quarantine>,
    missing: IntGauge,
    is_on: bool,
}

impl Recompiler {
    pub(crate) fn new(
        config: &CompileSection,
        catalog: &Arc<Catalog>,
        pool: &Arc<Pool>,
        quarantine: &Arc<Quarantine>,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let missing = IntGauge::new(
            "mayfly_native_code_missing",
            "Functions whose native code is yet to be made anew since a start of another build",
        )?;
        registry.register(Box::new(missing.clone()))?;
        Ok(Self {
            catalog: Arc::clone(catalog),
            pool: Arc::clone(pool),
            quarantine: Arc::clone(quarantine),
            missing,
            is_on: config.renew,
        })
    }

    /// Compiles what is active and has no native code of this build. Dropping it ends a
    /// compilation.
    pub(crate) async fn run(self) {
        if !self.is_on {
            return;
        }
        let active = self.catalog.filter(|_| true);
        let sources = active.iter().map(|entry| entry.spec.clone()).collect();
        let sources = match self.pool.missing_code(sources).await {
            Ok(sources) => sources,
            Err(error) => return tracing::error!(%error, "looking for native code"),
        };
        self.missing.set(i64::try_from(sources.len()).unwrap_or(i64::MAX));
        if !sources.is_empty() {
            tracing::info!(functions = sources.len(), "native code is made anew for this build");
        }
        for source in sources {
            match self.pool.compile_in_background(&source).await {
                Ok(()) => self.missing.dec(),
                // The others would not find any either; calls say what is the matter.
                Err(LoadError::NoSpace) => {
                    return tracing::warn!("no space left for native code; calls make their own");
                }
                Err(error) => self.failed(&source, &error),
            }
        }
        if self.missing.get() == 0
            && let Err(error) = self.pool.mark_code_complete().await
        {
            tracing::warn!(%error, "the next start will look for native code");
        }
    }

    fn failed(&self, source: &FunctionSpec, error: &LoadError) {
        self.quarantine.suspect(error, Digest::from_bytes(source.digest.0));
        tracing::warn!(%error, function = %source.label, "native code could not be made anew");
    }
}
