//! The composition root: every long-lived thing is made here and nowhere else.

pub(crate) mod descriptors;
pub(crate) mod keep_warm;
pub(crate) mod memory;
pub(crate) mod planes;
pub(crate) mod recompile;
pub(crate) mod reload;
pub(crate) mod runtimes;
pub(crate) mod systemd;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use gateway_api::FunctionLimit;
use prometheus::Registry;
use runtime_pool::{
    ArtifactDigest, CompileConfig, EngineConfig, Listeners, LogLine, Pool, PoolConfig, PoolMetrics,
    Sandbox, WarmConfig,
};
use store::{Store, Tenant};
use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};

use crate::{
    app::{
        memory::MemoryMetrics,
        planes::{PlaneListeners, Planes},
        recompile::Recompiler,
        reload::{Load, Reload, ReloadMetrics},
        runtimes::Runtimes,
        systemd::Sockets,
    },
    clock::now_ms,
    config::Config,
    control::{
        auth::{Tokens, tokens},
        layers::ControlConnection,
        router,
        state::ControlState,
    },
    edge::{
        Edge, admission::load_shed::LoadShedder, data_plane::DataPlane, rejections::Rejections,
    },
    functions::{catalog::Catalog, deploy::Deployer, quarantine::Quarantine, secrets::Secrets},
    invoker::Invoker,
    server::{ConnectionMetrics, ListenerControl, Server},
    telemetry::{self, guest_logs, request_id::RequestIdSource},
};

/// The first administrator's token, for the command line.
const ADMIN_TOKEN: &str = "admin.token";
/// Where native code is kept.
const CODE_DIR: &str = "code";
/// How often functions leave whose idle time is over.
const TIDY: Duration = Duration::from_millis(500);
/// How often artifacts are removed that nothing refers to, and how old they must be by then.
const COLLECT: Duration = Duration::from_hours(1);
/// When that is done first. A start touches no artifact, and what comes right after it has more
/// urgent things to do.
const FIRST_COLLECT: Duration = Duration::from_mins(10);
/// How long lines of functions may take to be stored at the end.
const LAST_LINES: Duration = Duration::from_secs(2);
const GARBAGE_AGE_MS: i64 = 24 * 3_600 * 1_000;

/// What the gateway is started with.
pub(crate) struct StartOptions {
    pub(crate) config: Config,
    /// Reads the settings once more.
    pub(crate) load: Load,
    pub(crate) sockets: Sockets,
}

/// Runs the gateway until it is told to stop by SIGTERM or SIGINT; a second signal ends the drain.
///
/// Requests to functions are served on threads of their own, so that they and everything else
/// cannot keep each other from working.
pub(crate) async fn run(given: StartOptions, threads: &Runtimes) -> anyhow::Result<()> {
    let StartOptions { config, load, sockets } = given;
    let log = telemetry::log::start(&config.logs)?;
    // Before anybody is told that we are here.
    let signals = StopSignals::listen()?;
    let hang_up = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    let registry = telemetry::metrics::registry()?;
    let (data_orders, data_obeys) = watch::channel(ListenerControl::default());
    let (control_orders, control_obeys) = watch::channel(ListenerControl::default());
    let (ready, readiness) = watch::channel(false);

    let store = open_store(&config).await?;
    let (lines, kept_lines) = mpsc::channel(guest_logs::CHANNEL_LINES);
    let (pool, pool_metrics) = start_pool(&config, lines, &registry, threads)?;
    let catalog = Arc::new(Catalog::load(&store, &config).await?);
    let quarantine = Quarantine::start(&registry, store.clone(), threads.control())?;
    let invoker = Invoker::new(&pool, &quarantine, &registry, pool_metrics)?;
    let deployer = Deployer::new(&store, &pool, &catalog, &quarantine, &config, &registry)?;

    let unbound = PlaneListeners::new(&config, ConnectionMetrics::register(&registry)?)?;
    let (certificates, draining) = (unbound.certificates(), unbound.draining());
    let (data_server, control_server) = unbound.bind(&config, sockets, threads).await?;
    pool.set_listeners(listeners(&data_server, &control_server));
    announce(&config, &store, &catalog, &data_server, &control_server).await?;

    let (data, control) = (threads.data(), threads.control());
    let refusals = Arc::new(Rejections::new(&registry)?);
    let edge = Edge::new(Arc::clone(&catalog), invoker, Arc::clone(&refusals), &config.server);
    let sandbox = Arc::default();
    let mut upkeep = upkeep(control, Arc::clone(&catalog), &pool, &store, &sandbox);
    let renewal = Recompiler::new(&config.compile, &catalog, &pool, &quarantine, &registry)?;
    upkeep.spawn_on(renewal.run(), control);
    let pressure = watch_pressure(&config, threads, (&pool, &data_orders), &registry, &mut upkeep)?;
    let data_plane = Arc::new(DataPlane::new(
        edge,
        config.server.admission.in_flight,
        pressure,
        refusals,
        RequestIdSource::new(now_ms().cast_unsigned()),
    ));
    let limits = Arc::new(ArcSwap::from_pointee(config.numbers()));
    let tenant = Tenant::default();
    let state = ControlState {
        tenant: tenant.clone(),
        deployer: deployer.clone(),
        quarantine,
        store: store.clone(),
        catalog,
        pool: Arc::clone(&pool),
        limits: Arc::clone(&limits),
        sandbox,
        secrets: Secrets::load(&store, &pool).await?,
        public_base: config.public_base(data_server.addr()).into(),
    };
    let tokens = Tokens::new(
        store.clone(),
        tenant.clone(),
        config.server.auth_failures_per_minute,
        &registry,
    )?;
    let metrics = ReloadMetrics::register(&registry)?;
    let control_plane = router::control_plane(state, tokens, registry, readiness)?;

    let connection = move |peer| data_plane.connection(peer);
    let data_task = data.spawn(data_server.run(connection, data_obeys));
    let server = config.server.clone();
    let connection = move |peer| ControlConnection::new(&control_plane, &server, peer);
    let control_task = control.spawn(control_server.run(connection, control_obeys));
    let lines_kept = u32::try_from(config.logs.lines_per_function).unwrap_or(u32::MAX);
    let log_task = control.spawn(guest_logs::store_lines(store.clone(), kept_lines, lines_kept));
    let unready = config.server.unready;
    let reserved_bytes = config.ceilings[FunctionLimit::MemoryBytes];
    let reload =
        Reload { load, config, log, certificates, metrics, deployer, limits, reserved_bytes };
    upkeep.spawn_on(reload.run(hang_up), control);
    systemd::watchdog(&mut upkeep, data, control);
    ready.send_replace(true);
    systemd::ready();

    let planes = Planes::new(draining, (data_orders, data_task), (control_orders, control_task));
    until_stopped(signals, &ready, planes, unready).await?;
    // Who still writes lines has had the whole drain; what has arrived is kept.
    drop((upkeep, pool));
    let _ = time::timeout(LAST_LINES, log_task).await;
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Waits for the signal to stop, and lets both planes come to their end or be stopped by another.
async fn until_stopped(
    mut signals: StopSignals,
    ready: &watch::Sender<bool>,
    planes: Planes,
    unready: Duration,
) -> anyhow::Result<()> {
    let stop = signals.next().await;
    tracing::info!("stopping");
    systemd::stopping();
    ready.send_replace(false);
    // Nobody who presses a key waits for a load balancer.
    let pause = if stop == Stop::Terminate { unready } else { Duration::ZERO };
    tokio::select! {
        ended = planes.end(pause) => Ok(ended?),
        _ = signals.next() => Ok(()),
    }
}

/// Starts the pool, and counts the tasks of every runtime there is.
fn start_pool(
    config: &Config,
    lines: mpsc::Sender<LogLine>,
    registry: &Registry,
    threads: &Runtimes,
) -> anyhow::Result<(Arc<Pool>, PoolMetrics)> {
    let metrics = PoolMetrics::register(registry)?;
    let pool = Arc::new(Pool::new(pool_config(config)?, lines, metrics.clone())?);
    registry.register(Box::new(telemetry::metrics::Tasks::of(vec![
        ("data", threads.data().clone()),
        ("background", pool.background_runtime().clone()),
        ("control", threads.control().clone()),
    ])?))?;
    Ok((pool, metrics))
}

/// Where guests cannot call.
fn listeners(data: &Server, control: &Server) -> Listeners {
    Listeners { data: vec![data.addr()], control: vec![control.addr()] }
}

/// What is done now and then. Ends when it is dropped: it only ever repeats what can be repeated.
fn upkeep(
    control: &Handle,
    catalog: Arc<Catalog>,
    pool: &Arc<Pool>,
    store: &Store,
    sandbox: &Arc<OnceLock<Sandbox>>,
) -> JoinSet<()> {
    let mut upkeep = JoinSet::new();
    upkeep.spawn_on(keep_warm::keep_warm(catalog, Arc::clone(pool)), control);
    upkeep.spawn_on(tidy(Arc::clone(pool), store.clone()), control);
    upkeep.spawn_on(report_sandbox(Arc::clone(pool), Arc::clone(sandbox)), control);
    upkeep
}

/// What refuses requests when processors or memory are used up.
fn watch_pressure(
    config: &Config,
    threads: &Runtimes,
    (pool, orders): (&Arc<Pool>, &watch::Sender<ListenerControl>),
    registry: &Registry,
    upkeep: &mut JoinSet<()>,
) -> anyhow::Result<Arc<LoadShedder>> {
    let turns = pool.run_queue();
    upkeep
        .spawn_on(Arc::clone(turns).watch(config.server.admission.worker_count()), threads.data());
    let pressure = Arc::new(LoadShedder::new(Arc::clone(turns)));
    let (limit, metrics) =
        (config.server.admission.memory_bytes, MemoryMetrics::register(registry)?);
    let relief = memory::ReliefAction {
        pressure: Arc::clone(&pressure),
        pool: Arc::clone(pool),
        connections: orders.clone(),
    };
    let watch = memory::watch(limit, relief, metrics);
    upkeep.spawn_on(watch, threads.control());
    Ok(pressure)
}

async fn open_store(config: &Config) -> anyhow::Result<Store> {
    Store::open(&store::StoreConfig::new(&config.data_dir))
        .await
        .with_context(|| format!("opening the data directory {}", config.data_dir.display()))
}

/// What the pool is made with.
pub(crate) fn pool_config(config: &Config) -> anyhow::Result<PoolConfig> {
    Ok(PoolConfig {
        engine: EngineConfig {
            instances: u32::try_from(config.pool.instances)?,
            memory_bytes_max: config.ceilings.size(FunctionLimit::MemoryBytes),
            keep_bytes: config.pool.keep_bytes,
            async_engine: config.pool.async_engine,
            artifact: config.uploads.artifact,
            guest: config.guests,
        },
        compile: CompileConfig {
            worker: own_binary()?,
            dir: config.data_dir.join(CODE_DIR),
            jobs: config.compile.job_count(),
            queue: config.compile.queue,
            memory_bytes: config.compile.memory_bytes,
            cpu_s: config.compile.cpu_s,
            wall: Duration::from_secs(config.compile.wall_s),
            output_bytes: config.compile.output_bytes,
            deploys_per_minute: config.quotas.compiles_per_minute,
        },
        outbound: config.outbound.clone(),
        memory_bytes: config.pool.memory_budget(),
        resident_bytes: config.pool.resident_bytes,
        loads: config.pool.load_count(),
        queue: config.pool.queue,
        max_lag: config.server.admission.max_lag,
        warm: WarmConfig {
            instances: config.pool.warm_instances,
            bytes: config.pool.warm_bytes,
            worthwhile: Duration::from_micros(config.pool.warm_from_us),
        },
    })
}

/// The compile worker is this same program. By way of /proc it is found even when the file was
/// replaced by a newer version meanwhile.
fn own_binary() -> anyhow::Result<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() { Ok(link) } else { std::env::current_exe().context("finding this program") }
}

/// Says on standard output where the gateway listens and, once, the administrator's token.
async fn announce(
    config: &Config,
    store: &Store,
    catalog: &Catalog,
    data: &Server,
    control: &Server,
) -> anyhow::Result<()> {
    use std::io::Write as _;
    let file = config.data_dir.join(ADMIN_TOKEN);
    let fresh = tokens::ensure_admin(store, &Tenant::default(), &file)
        .await
        .context("making the admin token")?;
    tracing::info!(
        functions = catalog.len(),
        data = %data.addr(),
        control = %control.addr(),
        "serving"
    );
    let mut out = std::io::stdout().lock();
    writeln!(out, "functions answer at   {}/f/NAME/", data.url())?;
    writeln!(out, "control plane at      {}/", control.url())?;
    writeln!(out, "admin token in        {}", file.display())?;
    if let Some(token) = fresh {
        writeln!(out, "admin token           {token}   (shown this once)")?;
    }
    Ok(())
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

/// Says which barriers stand around the compiler. A kernel that lacks one is used all the same: the
/// others hold, and operators are told.
async fn report_sandbox(pool: Arc<Pool>, found: Arc<OnceLock<Sandbox>>) {
    let sandbox = match pool.sandbox().await {
        Ok(sandbox) => found.get_or_init(|| sandbox),
        Err(error) => return tracing::error!(%error, "trying the compiler's sandbox"),
    };
    for what in &sandbox.reached {
        // Expected where a barrier is missing, and said below.
        tracing::warn!(what, "the compiler's sandbox lets this through");
    }
    let missing = sandbox.barriers().into_iter().filter(|(_, stands)| !stands);
    match missing.map(|(kind, _)| kind).collect::<Vec<_>>().join(", ") {
        missing if missing.is_empty() => tracing::info!("the compiler's sandbox is complete"),
        missing => tracing::warn!(missing, "this kernel lacks a part of the compiler's sandbox"),
    }
}

/// Removes what nothing refers to any more: artifacts, and the native code made of them.
async fn collect_garbage(pool: &Pool, store: &Store) {
    match store.collect_garbage(now_ms() - GARBAGE_AGE_MS).await {
        Ok(removed) => {
            for digest in &removed {
                pool.forget_artifact(ArtifactDigest(*digest.as_bytes())).await;
            }
            if !removed.is_empty() {
                tracing::info!(artifacts = removed.len(), "removed what nothing refers to");
            }
        }
        Err(error) => tracing::error!(%error, "removing unused artifacts"),
    }
    if let Err(error) = pool.forget_old_builds().await {
        tracing::error!(%error, "removing native code of old builds");
    }
}

/// How we were told to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// By a program.
    Terminate,
    /// By a key.
    Interrupt,
}

/// The signals that tell us to stop.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From here on no signal is missed, and none ends the process by itself.
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("waiting for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("waiting for SIGINT")?,
        })
    }

    async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Terminate,
            _ = self.interrupt.recv() => Stop::Interrupt,
        }
    }
}
