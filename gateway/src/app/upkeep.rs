//! Work that repeats while the gateway runs: warm instances, eviction, garbage collection, and one
//! report about the compiler's sandbox.

pub(crate) mod canaries;
mod keep_warm;
pub(crate) mod recompile;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use runtime_pool::{ArtifactDigest, Pool, Sandbox};
use store::Store;
use tokio::{runtime::Handle, task::JoinSet, time};

use crate::{
    app::upkeep::keep_warm::keep_warm, functions::catalog::Catalog, invoker::InvokerMetrics,
    telemetry::clock::now_ms,
};

/// The interval at which functions are evicted whose idle time is over.
const TIDY: Duration = Duration::from_millis(500);
/// The interval at which the metrics of deleted functions are removed.
const FORGET: Duration = Duration::from_secs(1);
/// The interval at which unused artifacts are removed.
const COLLECT: Duration = Duration::from_hours(1);
/// When they are removed for the first time. A start touches no artifact, and has more urgent work
/// right after it.
const FIRST_COLLECT: Duration = Duration::from_mins(10);
/// The age at which an unused artifact is removed.
const GARBAGE_AGE_MS: i64 = 24 * 3_600 * 1_000;

/// Starts the tasks. They end when the set is dropped, at any point: each of them only does what
/// can be done again.
pub(crate) fn start(
    control: &Handle,
    (catalog, pool, store): (&Arc<Catalog>, &Arc<Pool>, &Store),
    sandbox: &Arc<OnceLock<Sandbox>>,
    metrics: InvokerMetrics,
) -> JoinSet<()> {
    let mut upkeep = JoinSet::new();
    upkeep.spawn_on(keep_warm(Arc::clone(catalog), Arc::clone(pool)), control);
    upkeep.spawn_on(forget_deleted(Arc::clone(catalog), metrics), control);
    upkeep.spawn_on(tidy(Arc::clone(pool), store.clone()), control);
    upkeep.spawn_on(report_sandbox(Arc::clone(pool), Arc::clone(sandbox)), control);
    upkeep
}

/// Removes the metrics of deleted functions and channels, and frees their labels.
async fn forget_deleted(catalog: Arc<Catalog>, metrics: InvokerMetrics) {
    let mut ticks = time::interval(FORGET);
    loop {
        ticks.tick().await;
        for label in catalog.free_labels() {
            metrics.forget(&label);
        }
        for label in catalog.free_channel_labels() {
            metrics.forget_channel(&label);
        }
    }
}

async fn tidy(pool: Arc<Pool>, store: Store) {
    let mut tidy = time::interval(TIDY);
    let mut collect = time::interval_at(time::Instant::now() + FIRST_COLLECT, COLLECT);
    loop {
        tokio::select! {
            _ = tidy.tick() => pool.tidy().await,
            _ = collect.tick() => collect_garbage(&pool, &store).await,
        }
    }
}

/// Removes artifacts and files that no revision refers to, and the native code that was made of them.
async fn collect_garbage(pool: &Pool, store: &Store) {
    match store.collect_garbage(now_ms() - GARBAGE_AGE_MS).await {
        Ok(removed) => {
            for digest in &removed {
                pool.forget_artifact(ArtifactDigest(*digest.as_bytes())).await;
            }
            if !removed.is_empty() {
                tracing::info!(artifacts = removed.len(), "removed unused artifacts");
            }
        }
        Err(error) => tracing::error!(%error, "removing unused artifacts"),
    }
    match store.collect_trees(now_ms() - GARBAGE_AGE_MS, now_ms()).await {
        Ok((0, 0)) => {}
        Ok((trees, files)) => tracing::info!(trees, files, "removed unused files of functions"),
        Err(error) => tracing::error!(%error, "removing unused files of functions"),
    }
    if let Err(error) = pool.forget_old_builds().await {
        tracing::error!(%error, "removing native code of old builds");
    }
}

/// Reports which parts of the compiler's sandbox this kernel supports. The gateway runs without a
/// part that is missing, because the others still hold; the operator is warned, and by default
/// uploads are refused to those who are not administrators.
async fn report_sandbox(pool: Arc<Pool>, found: Arc<OnceLock<Sandbox>>) {
    let sandbox = match pool.sandbox().await {
        Ok(sandbox) => found.get_or_init(|| sandbox),
        Err(error) => return tracing::error!(%error, "trying the compiler's sandbox"),
    };
    for access in &sandbox.reached {
        // Expected where a part is missing, which the line below reports.
        tracing::warn!(access, "the compiler's sandbox does not prevent this access");
    }
    let missing = sandbox.barriers().into_iter().filter(|(_, stands)| !stands);
    match missing.map(|(kind, _)| kind).collect::<Vec<_>>().join(", ") {
        missing if missing.is_empty() => tracing::info!("the compiler's sandbox is complete"),
        missing => tracing::warn!(missing, "this kernel lacks a part of the compiler's sandbox"),
    }
}
