//! Which parts does the process consist of, and when do they start and stop?
//!
//! The composition root: [`run`] makes every long-lived part, top to bottom, and hands it to the
//! parts that use it.

pub(crate) mod announce;
pub(crate) mod descriptors;
pub(crate) mod load_shedding;
pub(crate) mod memory;
pub(crate) mod planes;
pub(crate) mod pool_config;
pub(crate) mod reload;
pub(crate) mod runtimes;
pub(crate) mod shutdown;
pub(crate) mod systemd;
pub(crate) mod triggers;
pub(crate) mod upkeep;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use gateway_api::FunctionLimit;
use prometheus::Registry;
use runtime_pool::{Listeners, LogLine, Pool, PoolMetrics};
use store::{Store, StoreConfig, Tenant};
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time,
};

use crate::{
    app::{
        announce::announce,
        planes::{PlaneListeners, Planes},
        pool_config::pool_config,
        reload::{Load, Reload, ReloadMetrics},
        runtimes::Runtimes,
        shutdown::{StopSignals, run_until_signal},
        systemd::Sockets,
        upkeep::{canaries::CanaryJudge, recompile::Recompiler},
    },
    config::Config,
    control::{
        auth::Tokens,
        backup_metrics::BackupMetrics,
        layers::ControlPlane,
        resources::node::probes::Probes,
        router,
        state::{ControlState, ControlTriggers},
    },
    edge::{
        Edge,
        admission::{clients::Clients, in_flight::InFlight, load_shed::LoadShedder},
        calls::{Calls, within::CallsWithin},
        data_plane::DataPlane,
        owned_routes::RouteGate,
        rejections::Rejections,
        response_body::compression::Compression,
    },
    functions::{
        catalog::Catalog,
        channels::revision_urls::RevisionUrls,
        deploy::Deployer,
        files::Files,
        quarantine::Quarantine,
        routes::{Routes, auth::RouteAuth, certificates::Certificates},
        secrets::Secrets,
        stores::{Stores, backends::Backends},
    },
    invoker::Invoker,
    server::{ConnectionMetrics, ExposedKey, HostCertificates, ListenerControl, Server},
    telemetry::{
        self,
        guest_logs::{self, LineStore},
        request_id::RequestIdSource,
    },
};

/// How long the last lines of functions may take to be stored after the drain.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The options of a start.
pub(crate) struct StartOptions {
    pub(crate) config: Config,
    /// Reads the settings again, for a reload.
    pub(crate) load: Load,
    pub(crate) sockets: Sockets,
}

/// Runs the gateway until SIGTERM or SIGINT; a second signal ends the drain.
///
/// Requests to functions run on threads of their own, so that they and everything else cannot
/// starve each other.
pub(crate) async fn run(
    StartOptions { config, load, sockets }: StartOptions,
    runtimes: &Runtimes,
) -> anyhow::Result<()> {
    let (data, control) = (runtimes.data(), runtimes.control());
    let registry = telemetry::metrics::registry()?;
    // Bound first: it is dropped last.
    let (log, _last_lines) = telemetry::log::start(&config.logs, &registry)?;
    // Before the gateway announces itself: a signal that comes right after that is not missed.
    let signals = StopSignals::listen()?;
    let hang_up = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    let (data_listener, data_commands) = watch::channel(ListenerControl::default());
    let (control_listener, control_commands) = watch::channel(ListenerControl::default());
    let (ready, readiness) = watch::channel(false);
    let tenant = Tenant::default();

    // The store, and the pool that runs its functions.
    let Core { store, stores, lines_to_store, pool, catalog, quarantine, invoker, deployer, owned } =
        Core::start(&config, &registry, runtimes).await?;

    // The listeners. Connections wait in their queues until the planes run.
    let listeners =
        PlaneListeners::new(&config, owned.hosts(), ConnectionMetrics::register(&registry)?)?;
    let (certificates, draining) = (listeners.certificates(), listeners.draining());
    let (data_server, control_server) = listeners.bind(&config, sockets, runtimes).await?;
    pool.set_listeners(own_listeners(&data_server, &control_server));
    announce(&config, &store, &tenant, &catalog, (&data_server, &control_server)).await?;

    // Background work.
    let sandbox = Arc::default();
    let mut upkeep = upkeep::start(control, (&catalog, &pool, &store), &sandbox, invoker.metrics());
    let parts = (&catalog, &pool, &quarantine, &deployer, (&owned, &stores));
    let told = (&data_listener, &registry);
    let shedder = start_background(&config, runtimes, parts, told, &mut upkeep)?;

    // The data plane.
    let routes = Routes::load(&store, &catalog).await?;
    let found = (&store, &catalog, &routes);
    let called = (&invoker, &pool, &registry);
    let (triggers, worker) =
        triggers::start(&config, found, called, &readiness, (&mut upkeep, control)).await?;
    let callers = (invoker, &triggers, owned.hosts());
    let plane = data_plane(&config, (&pool, found), callers, shedder, (data, &registry))?;

    // The control plane.
    let limits = Arc::new(ArcSwap::from_pointee(config.numbers()));
    let tokens = Tokens::new(&store, &tenant, &config.server, &registry)?;
    let state = ControlState {
        tenant,
        deployer: deployer.clone(),
        quarantine,
        store: store.clone(),
        catalog,
        pool: Arc::clone(&pool),
        limits: Arc::clone(&limits),
        sandbox,
        require_sandbox: config.compile.require_sandbox,
        files: Files::new(&store, &config.uploads),
        backups: BackupMetrics::register(&registry)?,
        certificates: owned,
        secrets: Secrets::load(&store, &pool).await?,
        routes,
        stores: stores.clone(),
        triggers,
        public_base: config.public_base(data_server.addr()).into(),
    };
    let metrics = ReloadMetrics::register(&registry)?;
    let log_lines = LineStore::new(&store, &config.logs, &registry)?.run(lines_to_store);
    let seen = (registry, readiness);
    let control_plane = control_plane(&config, state, tokens, seen, control_server.addr())?;

    // Serve.
    let data_task = data.spawn(data_server.run(move |peer| plane.connection(peer), data_commands));
    let connection = move |peer| control_plane.connection(peer);
    let control_task = control.spawn(control_server.run(connection, control_commands));
    let log_task = control.spawn(log_lines);
    let unready = config.server.unready;
    let reserved_bytes = config.ceilings[FunctionLimit::MemoryBytes];
    let reload =
        Reload { load, config, log, certificates, metrics, deployer, limits, reserved_bytes };
    upkeep.spawn_on(reload.run(hang_up), control);
    systemd::watchdog(&mut upkeep, data, control);

    let (data, control) = ((data_listener, data_task), (control_listener, control_task));
    let planes = Planes::new(draining, data, control, worker);
    run_until_signal(signals, &ready, planes, unready).await?;
    close((upkeep, pool), log_task, &stores, &store).await
}

/// The store, the pool that runs its functions, and what everything else uses of both.
struct Core {
    store: Store,
    stores: Stores,
    lines_to_store: mpsc::Receiver<LogLine>,
    pool: Arc<Pool>,
    catalog: Arc<Catalog>,
    quarantine: Arc<Quarantine>,
    invoker: Invoker,
    deployer: Deployer,
    /// The certificates of owners.
    owned: Certificates,
}

impl Core {
    async fn start(
        config: &Config,
        registry: &Registry,
        runtimes: &Runtimes,
    ) -> anyhow::Result<Self> {
        let store = open_store(config).await?;
        let (lines, lines_to_store) = mpsc::channel(guest_logs::CHANNEL_LINES);
        let (pool, pool_metrics) = start_pool(config, lines, registry, runtimes)?;
        let backends = Backends::open(config)?;
        let stores = Stores::load((&store, &pool), backends, (config, registry)).await?;
        let catalog = Arc::new(Catalog::load(&store, config).await?);
        let quarantine = Quarantine::start(registry, store.clone(), runtimes.control())?;
        let invoker = Invoker::new(&pool, &quarantine, registry, pool_metrics)?;
        let deployer =
            Deployer::new(&store, &pool, (&catalog, &stores), &quarantine, config, registry)?;
        let owned = Certificates::load(&store, registry).await?;
        Ok(Self {
            store,
            stores,
            lines_to_store,
            pool,
            catalog,
            quarantine,
            invoker,
            deployer,
            owned,
        })
    }
}

/// Waits until the task has stored the lines in its channel, and closes the stores of guests, of whom none runs any
/// longer, and the store.
async fn close(
    users: (JoinSet<()>, Arc<Pool>),
    log_task: JoinHandle<()>,
    stores: &Stores,
    store: &Store,
) -> anyhow::Result<()> {
    // With the last users of the pool, the channel of lines closes.
    drop(users);
    let _ = time::timeout(LAST_LINES, log_task).await;
    stores.close().await;
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// The gateway's own listeners, which guests cannot call.
fn own_listeners(data: &Server, control: &Server) -> Listeners {
    Listeners { data: vec![data.addr()], control: vec![control.addr()] }
}

fn control_plane(
    config: &Config,
    state: ControlState,
    tokens: Tokens,
    (registry, readiness): (Registry, watch::Receiver<bool>),
    listener: SocketAddr,
) -> anyhow::Result<ControlPlane> {
    let probes = Probes::new(registry, readiness, config.server.control.open_metrics);
    let router = router::control_plane(state, tokens, &probes)?;
    Ok(ControlPlane::new(router, &config.server, listener))
}

fn data_plane(
    config: &Config,
    (pool, (store, catalog, routes)): (&Arc<Pool>, (&Store, &Arc<Catalog>, &Routes)),
    (invoker, triggers, hosts): (Invoker, &ControlTriggers, &HostCertificates),
    load_shedder: Arc<LoadShedder>,
    (runtime, registry): (&Handle, &Registry),
) -> anyhow::Result<Arc<DataPlane>> {
    let rejections = Arc::new(Rejections::new(registry)?);
    let (revisions, catalog) = (RevisionUrls::new(store, catalog), Arc::clone(catalog));
    let calls =
        Arc::new(Calls::new(catalog, revisions, invoker, Arc::clone(&rejections), &config.server));
    let auth = RouteAuth::new(pool, &config.server.edge.issuers);
    let owned = RouteGate::new(routes.clone(), auth);
    let answering = (owned, Compression::register(registry)?);
    let triggers = (triggers.queue.clone(), triggers.flows.clone());
    let settings = (&config.server, hosts.clone());
    let edge = Edge::new(Arc::clone(&calls), triggers, answering, settings);
    let request_ids = RequestIdSource::random().context("asking the system for random bytes")?;
    let within = CallsWithin::new(calls, request_ids.for_connection(), runtime, registry)?;
    let within = Arc::new(within);
    pool.set_function_calls(Arc::<CallsWithin>::downgrade(&within));
    let in_flight = InFlight::new(config.server.admission.in_flight);
    let clients = Clients::new(config.in_flight_per_address());
    let permits = (in_flight, clients);
    let plane = DataPlane::new(edge, within, permits, load_shedder, rejections, request_ids);
    Ok(Arc::new(plane))
}

/// What works in the background without a call.
type BackgroundParts<'a> = (
    &'a Arc<Catalog>,
    &'a Arc<Pool>,
    &'a Arc<Quarantine>,
    &'a Deployer,
    (&'a Certificates, &'a Stores),
);

/// Starts to recompile functions, to judge canaries, and to watch how busy the node is.
fn start_background(
    config: &Config,
    runtimes: &Runtimes,
    (catalog, pool, quarantine, deployer, (owned, stores)): BackgroundParts<'_>,
    (data_listener, registry): (&watch::Sender<ListenerControl>, &Registry),
    upkeep: &mut JoinSet<()>,
) -> anyhow::Result<Arc<LoadShedder>> {
    let control = runtimes.control();
    let recompiler = Recompiler::new(&config.compile, catalog, pool, quarantine, registry)?;
    upkeep.spawn_on(recompiler.run(), control);
    upkeep.spawn_on(owned.clone().watch_expiry(), control);
    upkeep.spawn_on(stores.clone().upkeep(), control);
    upkeep.spawn_on(CanaryJudge::new(catalog, deployer, registry)?.run(), control);
    load_shedding::start(config, runtimes, pool, data_listener, registry, upkeep)
}

/// Whether a start failed because other users could change or read its files, which only the
/// operator can put right.
pub(crate) fn is_exposed(error: &anyhow::Error) -> bool {
    error.is::<ExposedKey>() || matches!(error.downcast_ref(), Some(store::Error::Exposed { .. }))
}

async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let shared = config.insecure_data_dir;
    if shared {
        tracing::warn!("insecure_data_dir: other users may be able to change the data directory");
    }
    Store::open(&StoreConfig { shared, ..StoreConfig::new(&config.data_dir) })
        .await
        .with_context(|| format!("opening the data directory {}", config.data_dir.display()))
}

/// Starts the pool, and registers a metric of the tasks of all runtimes.
fn start_pool(
    config: &Config,
    lines: mpsc::Sender<LogLine>,
    registry: &Registry,
    runtimes: &Runtimes,
) -> anyhow::Result<(Arc<Pool>, PoolMetrics)> {
    let metrics = PoolMetrics::register(registry)?;
    let pool = Arc::new(Pool::new(pool_config(config)?, lines, metrics.clone())?);
    registry.register(Box::new(telemetry::metrics::Tasks::of(vec![
        ("data", runtimes.data().clone()),
        ("background", pool.background_runtime().clone()),
        ("control", runtimes.control().clone()),
    ])?))?;
    Ok((pool, metrics))
}
