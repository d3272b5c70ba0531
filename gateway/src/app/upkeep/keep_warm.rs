//! Keeps as many instances warm as functions' schedules say.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use runtime_pool::{LoadError, Pool};
use tokio::{task::JoinSet, time};

use crate::functions::catalog::{Catalog, CatalogEntry};

/// The interval between two looks at all schedules. Shorter than every idle time, so that a
/// function with warm instances stays in memory.
const INTERVAL: Duration = Duration::from_millis(500);

/// Follows the schedules of all functions until it is dropped.
pub(crate) async fn keep_warm(catalog: Arc<Catalog>, pool: Arc<Pool>) {
    let mut ticks = time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut loading = JoinSet::new();
    let mut keys = HashMap::new();
    loop {
        ticks.tick().await;
        // A task logs its own errors; only its id is needed here.
        while let Some(ended) = loading.try_join_next_with_id() {
            keys.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
        let now = Timestamp::now();
        for entry in catalog.filter(|entry| !entry.schedule.is_none()) {
            match entry.schedule.at(now) {
                0 => keep_none(&entry),
                // In a task of its own: a function that must be compiled first delays no other.
                instances if !keys.values().any(|key| *key == entry.key) => {
                    let (key, pool) = (entry.key, Arc::clone(&pool));
                    let task = loading.spawn(async move { keep(&entry, instances, &pool).await });
                    keys.insert(task.id(), key);
                }
                _ => {}
            }
        }
    }
}

/// Ends the reservation of a resident function. A function that is not resident has none.
fn keep_none(entry: &CatalogEntry) {
    if let Some(function) = entry.resident.peek() {
        function.keep_warm(0);
    }
}

/// Loads one function if need be, and keeps its instances warm. The look-up in the pool also
/// keeps the function in memory.
async fn keep(entry: &CatalogEntry, instances: usize, pool: &Pool) {
    let source = async { Ok::<_, LoadError>(entry.spec()) };
    match pool.get_or_load(entry.key, source).await {
        Ok((function, _)) => {
            entry.resident.set(&function, Instant::now());
            function.keep_warm(instances);
        }
        // At level debug: callers get the reason, and this would repeat it twice a second.
        Err(error) => {
            tracing::debug!(%error, function = %entry.ungranted.label, "no instance can be kept warm");
        }
    }
}
