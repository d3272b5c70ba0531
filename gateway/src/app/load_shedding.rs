//! Watches processors and memory, and has the edge refuse requests when they run short.

use std::sync::Arc;

use prometheus::Registry;
use runtime_pool::Pool;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    app::{
        memory::{self, MemoryMetrics, ReliefAction},
        runtimes::Runtimes,
    },
    config::Config,
    edge::admission::load_shed::LoadShedder,
    server::ListenerControl,
};

/// Starts both watches as tasks of `upkeep`. `data_listener` recycles connections of the data
/// plane, which gives memory back.
pub(crate) fn start(
    config: &Config,
    runtimes: &Runtimes,
    pool: &Arc<Pool>,
    data_listener: &watch::Sender<ListenerControl>,
    registry: &Registry,
    upkeep: &mut JoinSet<()>,
) -> anyhow::Result<Arc<LoadShedder>> {
    let admission = &config.server.admission;
    let run_queue = pool.run_queue();
    upkeep.spawn_on(Arc::clone(run_queue).watch(admission.worker_count()), runtimes.data());
    let load_shedder = Arc::new(LoadShedder::new(Arc::clone(run_queue)));
    let relief = ReliefAction {
        load_shedder: Arc::clone(&load_shedder),
        pool: Arc::clone(pool),
        data_listener: data_listener.clone(),
    };
    let metrics = MemoryMetrics::register(registry)?;
    let watch = memory::watch(admission.memory_bytes, relief, metrics);
    upkeep.spawn_on(watch, runtimes.control());
    Ok(load_shedder)
}
