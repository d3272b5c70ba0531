//! Recompiles functions after a change of the build, in the background, so that no call waits for
//! it.
//!
//! One artifact at a time, and only while the compiler is idle. The first call compiles a function
//! that is not recompiled yet, and the next start continues.

use std::sync::Arc;

use prometheus::{IntGauge, Registry};
use runtime_pool::{FunctionSpec, LoadError, Pool};
use store::Digest;

use crate::{
    config::CompileSection,
    functions::{catalog::Catalog, quarantine::Quarantine},
};

/// Recompiles functions whose native code is of another build.
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
            "Artifacts of functions that are not recompiled yet since a start with another build",
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

    /// Compiles all revisions that calls can reach and that have no native code of this build. Dropping the future aborts
    /// a compilation.
    pub(crate) async fn run(self) {
        if !self.is_on {
            return;
        }
        // Native code is the same whatever guests are granted.
        let missing = match self.pool.missing_code(self.catalog.reachable()).await {
            Ok(missing) => missing,
            Err(error) => return tracing::error!(%error, "looking for native code"),
        };
        self.missing.set(i64::try_from(missing.len()).unwrap_or(i64::MAX));
        if !missing.is_empty() {
            tracing::info!(functions = missing.len(), "recompiling functions for this build");
        }
        for spec in missing {
            match self.pool.compile_in_background(&spec).await {
                Ok(()) => self.missing.dec(),
                // The others would not find any space either; calls report the cause.
                Err(LoadError::NoSpace) => {
                    return tracing::warn!("no space left for native code; recompiling stops");
                }
                Err(error) => self.failed(&spec, &error),
            }
        }
        if self.missing.get() == 0
            && let Err(error) = self.pool.mark_code_complete().await
        {
            tracing::warn!(%error, "the next start looks for native code again");
        }
    }

    fn failed(&self, spec: &FunctionSpec, error: &LoadError) {
        self.quarantine.suspect(error, Digest::from_bytes(spec.digest.0));
        tracing::warn!(%error, function = %spec.label, "a function could not be recompiled");
    }
}
