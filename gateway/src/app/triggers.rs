//! Starts what calls functions when no client waits.

use std::sync::Arc;

use prometheus::Registry;
use runtime_pool::Pool;
use store::Store;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{
    config::Config,
    control::state::ControlTriggers,
    functions::{catalog::Catalog, channels::revision_urls::RevisionUrls, routes::Routes},
    invoker::Invoker,
    triggers::{
        attempt::Attempts,
        call_queue::CallQueue,
        calling::FunctionCaller,
        delivery::Deliveries,
        flows::Flows,
        queues::{Queues, consume::Consumers},
        schedules::Schedules,
        worker::Worker,
    },
};

/// Stops the worker, whose task ends some time afterwards.
pub(super) type WorkerTask = (watch::Sender<bool>, JoinHandle<()>);

/// Starts to empty the queue of calls, its upkeep, and to enqueue the runs of schedules while the gateway is
/// ready.
pub(super) async fn start(
    config: &Config,
    (store, catalog, routes): (&Store, &Arc<Catalog>, &Routes),
    (invoker, pool, registry): (&Invoker, &Arc<Pool>, &Registry),
    readiness: &watch::Receiver<bool>,
    (upkeep, control): (&mut JoinSet<()>, &Handle),
) -> anyhow::Result<(ControlTriggers, WorkerTask)> {
    let queue = CallQueue::new(store, &config.queue, registry)?;
    let labels = (registry, config.metrics.queues);
    let queues = Queues::load((store, catalog), &queue, labels).await?;
    let functions = FunctionCaller::new(invoker.clone());
    let flows = Flows::load((store, catalog), (&queue, &functions), (registry, config)).await?;
    let attempts = Attempts {
        catalog: Arc::clone(catalog),
        routes: routes.clone(),
        revisions: RevisionUrls::new(store, catalog),
        functions: functions.clone(),
        queue: queue.clone(),
        deliveries: Deliveries::new(pool),
        consumers: Consumers::new(queues.clone(), functions),
        flows: flows.clone(),
    };
    let (stop, stopping) = watch::channel(false);
    let worker = Worker::new(attempts, pool.background_runtime().clone());
    let drain = config.server.listener.drain;
    let worker = (stop, control.spawn(worker.run(stopping, drain)));
    let schedules = Schedules::load(store, catalog, &queue, registry).await?;
    upkeep.spawn_on(queue.clone().upkeep(), control);
    upkeep.spawn_on(queues.clone().upkeep(), control);
    upkeep.spawn_on(schedules.clone().tick(readiness.clone()), control);
    Ok((ControlTriggers { queue, schedules, queues, flows }, worker))
}
