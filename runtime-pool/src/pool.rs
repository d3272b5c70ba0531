//! Which functions are resident.

pub(crate) mod function;
pub(crate) mod linker;

use std::{
    io,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use moka::{Expiry, future::Cache, notification::RemovalCause, policy::EvictionPolicy};
use secrecy::SecretString;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
};

use crate::{
    ArtifactDigest, CompileConfig, EngineConfig, Function, Grant, InvokeError, Listeners, LogLine,
    OutboundConfig, PoolMetrics, StartError, State,
    admission::{background::BackgroundRuntime, run_queue::RunQueue, slots::NodeQueue},
    code::{
        cache::{CodeCache, NativeCode},
        compiler::{Compiler, Purpose},
        inspect::Inspection,
        key::CodeKey,
        sandbox::Sandbox,
        snapshot::Snapshot,
    },
    engine::reset_strategy,
    error::{LoadError, Refusal},
    host::instance::PreInstance,
    limits::{GuestLimits, NodeMemory},
    metrics::{
        guest_log::{FunctionKey, FunctionLog},
        start::{Phase, Phases, Start, Tier},
    },
    outbound::{Client, Policy},
    pool::{
        function::{FunctionSpec, NodeShared},
        linker::Linkers,
    },
    warm::{WarmBudget, WarmConfig},
};

/// Native code up to this size is mapped by the thread that needs it. That takes a few hundred
/// microseconds; waking another thread for it, and this one afterwards, takes half as long again.
const INLINE_BYTES: u64 = 1 << 20;
/// What a resident function takes besides its native code, about: Wasmtime's tables of types and
/// functions, linked imports, and ours. `load density` shows it as memory for each function.
const BESIDES_CODE: u64 = 45 << 10;

/// What stays in memory, and what it is made with.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Wasmtime's reservations.
    pub engine: EngineConfig,
    /// How native code is made.
    pub compile: CompileConfig,
    /// What guests may call.
    pub outbound: OutboundConfig,
    /// Linear memory of all instances together, in bytes.
    pub memory_bytes: u64,
    /// Bytes that resident functions may take, each its native code and what there is besides;
    /// the least recently used leaves first.
    pub resident_bytes: u64,
    /// Functions that may be loaded at once.
    pub loads: usize,
    /// Invocations that may wait for a slot, over all functions.
    pub queue: usize,
    /// The longest that invocations should wait for a thread; zero for as long as it takes.
    pub max_lag: Duration,
    /// Instances that may wait for calls.
    pub waiting: WarmConfig,
}

/// Keeps functions in memory, as long as they are called.
pub struct Pool {
    linkers: Arc<Linkers>,
    compiler: Compiler,
    resident: Cache<FunctionKey, Arc<Function>>,
    loads: Semaphore,
    waiting: Arc<WarmBudget>,
    line: Arc<NodeQueue>,
    turns: Arc<RunQueue>,
    memory: NodeMemory,
    guest: GuestLimits,
    long: BackgroundRuntime,
    client: Arc<Client>,
    logs: tokio::sync::mpsc::Sender<LogLine>,
    metrics: PoolMetrics,
    graveyard: mpsc::Sender<PreInstance>,
}

/// Each function leaves when it was not called for its own idle time.
struct IdleTime;

impl Expiry<FunctionKey, Arc<Function>> for IdleTime {
    fn expire_after_create(
        &self,
        _key: &FunctionKey,
        function: &Arc<Function>,
        _created_at: Instant,
    ) -> Option<Duration> {
        Some(function.limits().idle)
    }

    fn expire_after_read(
        &self,
        _key: &FunctionKey,
        function: &Arc<Function>,
        _read_at: Instant,
        _left: Option<Duration>,
        _last_modified_at: Instant,
    ) -> Option<Duration> {
        Some(function.limits().idle)
    }
}

impl Pool {
    /// Reserves memory for instances and starts the threads that keep time and clean up.
    ///
    /// Lines that guests write go to `logs`; whoever has the other end decides what is kept.
    pub fn new(
        config: PoolConfig,
        logs: tokio::sync::mpsc::Sender<LogLine>,
        metrics: PoolMetrics,
    ) -> Result<Self, StartError> {
        let linkers = Linkers::new(&config.engine)?;
        metrics.instance_slots.set(config.engine.instances.into());
        let cache =
            CodeCache::open(&config.compile.dir, linkers.compatibility()?).map_err(|cause| {
                StartError { what: "opening the cache of native code", cause: cause.into() }
            })?;
        tracing::info!(reset = reset_strategy(), "instances are reset by");
        let evicted = metrics.clone();
        let resident = Cache::builder()
            .max_capacity(config.resident_bytes)
            .weigher(|_, function: &Arc<Function>| {
                u32::try_from(function.code_bytes() + BESIDES_CODE).unwrap_or(u32::MAX)
            })
            .expire_after(IdleTime)
            // The default policy may refuse a newcomer that was not asked for often enough.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_key, _function, cause| {
                evicted.evictions.with_label_values(&[cause_label(cause)]).inc();
            })
            .build();
        Ok(Self {
            compiler: Compiler::new(config.compile, config.engine.artifact, cache, metrics.clone()),
            linkers: Arc::new(linkers),
            resident,
            loads: Semaphore::new(config.loads),
            memory: NodeMemory::new(config.memory_bytes, metrics.memory_bytes.clone()),
            guest: config.engine.guest,
            line: Arc::new(NodeQueue::new(config.queue)),
            turns: Arc::new(RunQueue::new(config.max_lag, metrics.behind_seconds.clone())),
            waiting: Arc::new(WarmBudget::new(&config.waiting, metrics.clone())),
            long: BackgroundRuntime::start()?,
            client: Arc::new(Client::new(config.outbound, metrics.clone())?),
            logs,
            metrics,
            graveyard: reaper()?,
        })
    }

    /// Says where the gateway listens: guests cannot call there.
    pub fn set_listeners(&self, listeners: Listeners) {
        self.client.set_listeners(listeners);
    }

    /// Makes a secret known, to be sent to `hosts` alone, or to any if there are none.
    pub fn set_secret(&self, name: String, value: SecretString, hosts: Vec<Grant>) {
        self.client.secrets.set(name, value, hosts);
    }

    /// Forgets a secret.
    pub fn remove_secret(&self, name: &str) {
        self.client.secrets.remove(name);
    }

    /// The resident function, or the one that `source` describes; and what that took.
    ///
    /// Concurrent misses on one key run `source` once and share its outcome.
    pub async fn get_or_load<E>(
        &self,
        key: FunctionKey,
        source: impl Future<Output = Result<FunctionSpec, E>>,
    ) -> Result<(Arc<Function>, Start), Arc<E>>
    where
        E: From<LoadError> + Send + Sync + 'static,
    {
        if let Some(function) = self.resident.get(&key).await {
            return Ok((function, Start::resident()));
        }
        let since = Instant::now();
        let mut loaded = None;
        let load = async {
            let source = source.await?;
            let fetched = since.elapsed();
            let (function, _, mut phases) = self.load_published(key, source).await?;
            // Nothing was fetched from anywhere if it took no time.
            if fetched >= Duration::from_micros(1) {
                phases.add(Phase::Fetch, fetched);
            }
            loaded = Some(phases);
            Ok(function)
        };
        let function = self.resident.try_get_with(key, load).await?;
        let mut start = Start::from(function.origin());
        match loaded {
            Some(phases) => start.phases = phases,
            // Somebody else loaded it meanwhile.
            None => start.phases.add(Phase::Queue, since.elapsed()),
        }
        Ok((function, start))
    }

    /// Compiles a revision that does not exist yet, loads it and tries to make an instance.
    pub async fn prepare(&self, source: FunctionSpec) -> Result<Inspection, LoadError> {
        let nobody = FunctionKey { function: 0, revision: 0, generation: 0 };
        let isolation = source.isolation;
        let (function, inspection, _) = match self.load(nobody, source, Purpose::Deploy).await {
            // Our own native code was made a moment ago: that it does not load is the artifact's
            // doing. It needs more of something than a slot of the pool has.
            Err(LoadError::Engine { detail, .. }) => {
                return Err(Refusal::TooLarge(format!(
                    "{detail} (the operator's settings ceilings.memory_bytes, \
                     guests.table_elements and uploads.*)"
                ))
                .into());
            }
            other => other?,
        };
        isolation.fits(inspection.kind)?;
        match function.smoke().await {
            // It is not the artifact's fault that the node is full; the next call will tell.
            Ok(()) | Err(InvokeError::Instances) => Ok(inspection),
            Err(InvokeError::Failed { detail, .. }) => Err(Refusal::Start(detail).into()),
            Err(error) => Err(Refusal::Start(error.to_string()).into()),
        }
    }

    /// Lets deploys begin so many compilations within a minute from here on.
    pub fn set_deploys_per_minute(&self, most: usize) {
        self.compiler.set_deploys_per_minute(most);
    }

    /// Which barriers stand around the compiler on this machine. Starts one to find out.
    pub async fn sandbox(&self) -> io::Result<Sandbox> {
        self.compiler.sandbox().await
    }

    /// What became of the snapshot that `source` asks for; `None` if it asks for none, or none was
    /// tried since the native code was last lost.
    pub async fn snapshot(&self, source: &FunctionSpec) -> Option<Snapshot> {
        source.snapshot.as_ref()?;
        self.compiler.snapshot(&source.code_key()).await
    }

    /// The line before the processors.
    pub fn turns(&self) -> &Arc<RunQueue> {
        &self.turns
    }

    /// Where guests go on that compute for long.
    pub fn background_runtime(&self) -> &tokio::runtime::Handle {
        self.long.handle()
    }

    /// Makes a revision resident before anybody asks, so that the first call finds it.
    pub async fn adopt(&self, key: FunctionKey, source: FunctionSpec) {
        let source = async { Ok::<_, LoadError>(source) };
        if let Err(error) = self.get_or_load(key, source).await {
            // The next call loads it, and answers with the reason if that fails too.
            tracing::warn!(%error, "a function that was just deployed could not be loaded");
        }
    }

    /// How much of a revision is in memory. Looking does not keep it there.
    pub fn state(&self, key: &FunctionKey) -> State {
        if self.resident.contains_key(key) { State::Loaded } else { State::Cold }
    }

    /// Forgets a revision. Calls in flight keep it alive until they end.
    pub async fn evict(&self, key: &FunctionKey) {
        self.resident.invalidate(key).await;
    }

    /// Those of `sources` that have no native code, after a start of another build than the last
    /// one. Looks at no file if it is the same.
    pub async fn missing_code(
        &self,
        mut sources: Vec<FunctionSpec>,
    ) -> Result<Vec<FunctionSpec>, LoadError> {
        if !self.compiler.may_lack_code() {
            return Ok(Vec::new());
        }
        let keys = sources.iter().map(FunctionSpec::code_key).collect();
        let on_disk = self.compiler.on_disk(keys).await?;
        sources.retain(|source| !on_disk.contains(&source.code_key()));
        Ok(sources)
    }

    /// Makes native code that nobody waits for, when nobody waits for any other.
    pub async fn compile_in_background(&self, source: &FunctionSpec) -> Result<(), LoadError> {
        match self.compiler.compile_in_background(&source.code_key(), &source.artifact).await {
            // As when it is loaded.
            Err(LoadError::Refused(Refusal::StartUp(reason))) => {
                self.do_without_snapshot(source, reason).await
            }
            outcome => outcome,
        }
    }

    /// Notes that there is native code of all that is active: the next start of this build need not
    /// look for it.
    pub async fn mark_code_complete(&self) -> Result<(), LoadError> {
        if self.compiler.may_lack_code() {
            self.compiler.mark_code_complete().await
        } else {
            Ok(())
        }
    }

    /// Removes the native code of old builds. That of the one before this stays.
    pub async fn forget_old_builds(&self) -> Result<(), LoadError> {
        self.compiler.forget_old_builds().await
    }

    /// Removes the native code of an artifact that no revision refers to.
    pub async fn forget_artifact(&self, digest: ArtifactDigest) {
        self.compiler.forget(digest).await;
    }

    /// Lets all waiting instances leave: they are only there to be quick.
    pub fn release_warm(&self) {
        self.waiting.release();
    }

    /// Lets functions and waiting instances leave whose time has come. Somebody must call this now
    /// and then: the cache has no thread of its own.
    pub async fn tidy(&self) {
        self.resident.run_pending_tasks().await;
        self.waiting.tick();
    }

    /// Loads a revision whose snapshot, if it has one, could be taken when it was deployed.
    async fn load_published(
        &self,
        key: FunctionKey,
        source: FunctionSpec,
    ) -> Result<Loaded, LoadError> {
        // Boxed, as all that loads is large, and seldom.
        match Box::pin(self.load(key, source.clone(), Purpose::InvocationState)).await {
            // Since then a limit became tighter, or the machine too busy. That it starts slowly is
            // better than that it does not.
            Err(LoadError::Refused(Refusal::StartUp(reason))) => {
                self.do_without_snapshot(&source, reason).await?;
                Box::pin(self.load(key, source, Purpose::InvocationState)).await
            }
            loaded => loaded,
        }
    }

    /// Loads a revision. Its snapshot is a binary that was rewritten: if that does not work, which
    /// is not its owner's concern, it is done without.
    async fn load(
        &self,
        key: FunctionKey,
        source: FunctionSpec,
        purpose: Purpose,
    ) -> Result<Loaded, LoadError> {
        if source.snapshot.is_none() {
            return Box::pin(self.load_as_asked(key, source, purpose)).await;
        }
        let reason = match Box::pin(self.load_as_asked(key, source.clone(), purpose)).await {
            Ok(loaded) => match try_snapshot(&loaded).await {
                Ok(()) => return Ok(loaded),
                Err(error) => error.to_string(),
            },
            Err(error @ (LoadError::Engine { .. } | LoadError::Refused(Refusal::Start(_)))) => {
                if !matches!(self.snapshot(&source).await, Some(Snapshot::Taken { .. })) {
                    return Err(error);
                }
                error.to_string()
            }
            Err(error) => return Err(error),
        };
        let reason = format!("instances cannot start from it: {reason}");
        self.do_without_snapshot(&source, reason).await?;
        Box::pin(self.load_as_asked(key, source, purpose)).await
    }

    async fn do_without_snapshot(
        &self,
        source: &FunctionSpec,
        reason: String,
    ) -> Result<(), LoadError> {
        tracing::warn!(reason, "a snapshot is done without");
        self.compiler.without_snapshot(&source.code_key(), &source.artifact, reason).await.map(drop)
    }

    async fn load_as_asked(
        &self,
        key: FunctionKey,
        source: FunctionSpec,
        purpose: Purpose,
    ) -> Result<Loaded, LoadError> {
        let started = Instant::now();
        let code_key = source.code_key();
        let known = self.compiler.knows(&code_key);
        let mut phases = Phases::default();
        let linked = self.link(&code_key, &source.artifact, purpose, &mut phases).await;
        let (code, linked, tier) = match linked {
            // The file may have been damaged or removed under us: once more, from the start.
            Err(LoadError::Engine { .. }) if known => {
                self.compiler.doubt(&code_key).await;
                self.link(&code_key, &source.artifact, purpose, &mut phases).await?
            }
            other => other?,
        };
        let surroundings = NodeShared {
            policy: Policy::new(
                Arc::clone(&self.client),
                Arc::clone(&source.label),
                source.outbound.clone(),
                source.credentials.clone(),
            ),
            log: FunctionLog::new(key, self.logs.clone(), &self.guest, self.metrics.clone()),
            lane: self.long.lane(),
            budget: Arc::clone(&self.waiting),
            line: Arc::clone(&self.line),
            turns: Arc::clone(&self.turns),
            memory: self.memory.clone(),
            metrics: self.metrics.clone(),
            graveyard: self.graveyard.clone(),
        };
        let function = Function::new(linked, code.bytes, tier, source, surroundings);
        self.metrics
            .load_seconds
            .with_label_values(&[tier.as_str()])
            .observe(started.elapsed().as_secs_f64());
        Ok((Arc::new(function), code.inspection.clone(), phases))
    }

    /// The right to load one function.
    async fn loading(&self, phases: &mut Phases) -> SemaphorePermit<'_> {
        if let Ok(permit) = self.loads.try_acquire() {
            return permit;
        }
        let since = Instant::now();
        let permit = self.loads.acquire().await.expect("the semaphore is never closed");
        phases.add(Phase::Queue, since.elapsed());
        permit
    }

    async fn link(
        &self,
        key: &CodeKey,
        artifact: &Path,
        purpose: Purpose,
        phases: &mut Phases,
    ) -> Result<(Arc<NativeCode>, PreInstance, Tier), LoadError> {
        let since = Instant::now();
        let (code, tier) = self.compiler.native_code(key, artifact, purpose).await?;
        // Verifying what is on disk is part of loading it.
        let phase = if tier == Tier::Frozen { Phase::Compile } else { Phase::Load };
        phases.add(phase, since.elapsed());
        // Only now: whoever waits for a compiler must not keep others from loading.
        let _permit = self.loading(phases).await;
        if code.bytes <= INLINE_BYTES {
            let linked = self.linkers.link(&code, phases)?;
            return Ok((code, linked, tier));
        }
        let (linkers, linking) = (Arc::clone(&self.linkers), Arc::clone(&code));
        let mut linking_phases = *phases;
        let linked = spawn_blocking(move || {
            let linked = linkers.link(&linking, &mut linking_phases)?;
            Ok::<_, LoadError>((linked, linking_phases))
        });
        let (linked, linked_phases) = linked.await.map_err(|error| LoadError::Engine {
            what: "linking a function",
            detail: error.to_string(),
        })??;
        *phases = linked_phases;
        Ok((code, linked, tier))
    }
}

/// A function, what it is, and what loading it took.
type Loaded = (Arc<Function>, Inspection, Phases);

/// Makes an instance from a snapshot that has just been made.
async fn try_snapshot((function, inspection, _): &Loaded) -> Result<(), InvokeError> {
    let taken = matches!(inspection.snapshot, Some(Snapshot::Taken { .. }));
    if !taken || function.origin() != Tier::Frozen {
        return Ok(());
    }
    match Arc::clone(function).smoke().await {
        // The node is full, which says nothing about the snapshot.
        Ok(()) | Err(InvokeError::Instances | InvokeError::NodeMemory) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A thread that drops code, which unmaps it. It ends with the last function and the pool.
fn reaper() -> Result<mpsc::Sender<PreInstance>, StartError> {
    let (graveyard, arrivals) = mpsc::channel::<PreInstance>();
    thread::Builder::new()
        .name("mayfly-reaper".into())
        .spawn(move || arrivals.into_iter().for_each(drop))
        .map_err(|cause| StartError { what: "starting the reaper", cause: cause.into() })?;
    Ok(graveyard)
}

fn cause_label(cause: RemovalCause) -> &'static str {
    match cause {
        RemovalCause::Expired => "idle",
        RemovalCause::Explicit => "removed",
        RemovalCause::Replaced => "replaced",
        RemovalCause::Size => "capacity",
    }
}
