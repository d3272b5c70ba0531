//! Which functions are resident?
//!
//! [`Pool`] keeps functions in memory, `loader` brings them there, and `function` is one of them.
//! `invocation` calls them; the pool does not know how.

pub(crate) mod config;
mod file_trees;
pub(crate) mod function;
mod idle_memory;
pub(crate) mod linker;
mod loader;
mod native_code;
mod node;
mod statistics;

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use moka::{Expiry, future::Cache, notification::RemovalCause, policy::EvictionPolicy};
use tokio::runtime::Handle;

use crate::{
    Function, FunctionCalls, InvokeError, KeyValueStore, Listeners, LogLine, PoolMetrics, Secret,
    StartError, State, VettedClient,
    admission::run_queue::RunQueue,
    code::{
        cache::CodeCache,
        compiler::{Compiler, Purpose, Uploader},
        inspect::Inspection,
    },
    engine::reset_strategy,
    error::{LoadError, Refusal},
    executor::spec::FunctionSpec,
    metrics::{
        guest_log::FunctionKey,
        start::{Phase, Start},
    },
    pool::{
        config::PoolConfig, idle_memory::IdleMemory, linker::Linkers, loader::Loader,
        node::NodeShared,
    },
};

/// The approximate memory of a resident function besides its native code: Wasmtime's tables of types
/// and functions, linked imports, and our own structures. `load density` measures it.
const BESIDES_CODE: u64 = 45 << 10;

/// Keeps functions in memory for as long as they are called.
pub struct Pool {
    resident: Cache<FunctionKey, Arc<Function>>,
    loader: Loader,
    node: NodeShared,
    idle_memory: IdleMemory,
}

/// Evicts each function when it has not been called for the idle time of its own limits.
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
    /// Lines that guests write go to `logs`; the receiver decides which of them are kept.
    pub fn new(
        config: PoolConfig,
        logs: tokio::sync::mpsc::Sender<LogLine>,
        metrics: PoolMetrics,
    ) -> Result<Self, StartError> {
        let linkers = Linkers::new(&config.engine)?;
        metrics.instance_slots.set(config.engine.instances.into());
        let cache = CodeCache::open(
            &config.compile.dir,
            linkers.compatibility(config.compile.core_modules)?,
        )
        .map_err(|cause| StartError {
            what: "opening the cache of native code",
            cause: cause.into(),
        })?;
        tracing::info!(reset = reset_strategy(), "instances are reset by");
        let node = NodeShared::start(&config, logs, metrics.clone())?;
        let idle_memory = IdleMemory::new(&config.engine, linkers.engines(), metrics.clone());
        let resident = resident_cache(config.resident_bytes, metrics.clone());
        let compiler = Compiler::new(config.compile, config.engine.artifact, cache, metrics);
        Ok(Self {
            resident,
            loader: Loader::new(compiler, linkers, config.loads),
            node,
            idle_memory,
        })
    }

    /// Sets the addresses at which the gateway listens. Guests cannot call them.
    pub fn set_listeners(&self, listeners: Listeners) {
        self.node.client.set_listeners(listeners);
    }

    /// A client for requests of the gateway itself to URLs that owners name. `purpose` is its label
    /// in metrics. Each client has its own share of look-ups.
    pub fn vetted_client(&self, purpose: &'static str) -> VettedClient {
        VettedClient::new(Arc::clone(&self.node.client), purpose)
    }

    /// Sets what calls functions for guests of other functions.
    pub fn set_function_calls(&self, calls: Weak<dyn FunctionCalls>) {
        self.node.client.set_functions(calls);
    }

    /// Adds or replaces a secret of a tenant.
    pub fn set_secret(&self, tenant: &str, name: &str, secret: Secret) {
        self.node.client.secrets.set(tenant, name, secret);
    }

    /// A secret of a tenant, for the gateway's own use.
    pub fn secret(&self, tenant: &str, name: &str) -> Option<Arc<Secret>> {
        self.node.client.secrets.get(tenant, name)
    }

    /// The value of a secret, to sign a request of the gateway itself to `uri` with it for a function. `None`
    /// unless the function may use it and it may be sent there.
    pub fn signing_secret(
        &self,
        tenant: &str,
        function: &str,
        name: &str,
        method: &http::Method,
        uri: &http::Uri,
    ) -> Option<secrecy::SecretString> {
        self.node.client.secrets.for_signing(tenant, function, name, method, uri)
    }

    /// Removes a secret of a tenant.
    pub fn remove_secret(&self, tenant: &str, name: &str) {
        self.node.client.secrets.remove(tenant, name);
    }

    /// Adds or replaces a store of keys and values. Guests that open it from here on get this one.
    pub fn set_key_value_store(&self, tenant: &str, name: &str, store: KeyValueStore) {
        self.node.stores.set(tenant, name, store);
    }

    /// Removes a store of keys and values. Guests that have opened it keep it until it is
    /// [deleted](crate::GuestStore::delete).
    pub fn remove_key_value_store(&self, tenant: &str, name: &str) {
        self.node.stores.remove(tenant, name);
    }

    /// A store of keys and values.
    pub fn key_value_store(&self, tenant: &str, name: &str) -> Option<KeyValueStore> {
        self.node.stores.get(tenant, name)
    }

    /// Returns the resident function, or loads the one that `spec` resolves to; also how the
    /// invocation starts because of that.
    ///
    /// Concurrent misses on one key await one `spec` and share the outcome.
    pub async fn get_or_load<E>(
        &self,
        key: FunctionKey,
        spec: impl Future<Output = Result<FunctionSpec, E>>,
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
            let spec = spec.await?;
            let fetched = since.elapsed();
            let mut load = self.loader.load_published(&self.node, key, &spec).await?;
            // A caller that has the specification at hand fetches nothing.
            if fetched >= Duration::from_micros(1) {
                load.phases.add(Phase::Fetch, fetched);
            }
            loaded = Some(load.phases);
            Ok(load.function)
        };
        let function = self.resident.try_get_with(key, load).await?;
        let mut start = Start::from(function.statistics.origin);
        match loaded {
            Some(phases) => start.phases = phases,
            // Another call loaded it, and this one waited for that.
            None => start.phases.add(Phase::Queue, since.elapsed()),
        }
        Ok((function, start))
    }

    /// Compiles a revision that is not published yet, loads it and tries to make an instance. Uploaders
    /// take turns at the compiler.
    pub async fn validate(
        &self,
        spec: FunctionSpec,
        uploader: Uploader,
    ) -> Result<Inspection, LoadError> {
        let unpublished = FunctionKey { function: 0, revision: 0, generation: 0, overlay: 0 };
        let purpose = Purpose::Deploy(uploader);
        let loaded = match self.loader.load(&self.node, unpublished, &spec, purpose).await {
            // The native code was compiled a moment ago and is not damaged. If it does not load,
            // then the artifact needs more of some resource than an instance of the pool has.
            Err(LoadError::Engine { detail, .. }) => Err(Refusal::TooLarge(format!(
                "{detail} (the operator's settings ceilings.memory_bytes, \
                 guests.table_elements and uploads.*)"
            ))
            .into()),
            loaded => loaded,
        }?;
        spec.isolation.fits(loaded.inspection.kind)?;
        match loaded.function.template.instantiate_ahead().await.0 {
            // A full node is not the artifact's fault. The next call will show whether it starts.
            Ok(_) | Err(InvokeError::Instances) => Ok(loaded.inspection),
            Err(InvokeError::Failed { detail, .. }) => Err(Refusal::Start(detail).into()),
            Err(error) => Err(Refusal::Start(error.to_string()).into()),
        }
    }

    /// The queue in which guests wait to begin while the processors are busy.
    pub fn run_queue(&self) -> &Arc<RunQueue> {
        &self.node.run_queue
    }

    /// The runtime that takes over guests that compute for long.
    pub fn background_runtime(&self) -> &Handle {
        self.node.background.handle()
    }

    /// Makes a revision resident before its first call.
    pub async fn preload(&self, key: FunctionKey, spec: FunctionSpec) {
        let spec = async { Ok::<_, LoadError>(spec) };
        if let Err(error) = self.get_or_load(key, spec).await {
            // The next call tries again, and is answered with the reason if that fails too.
            tracing::warn!(%error, "a function that was just deployed could not be loaded");
        }
    }

    /// How much of a revision is in memory. This does not count as a use of it.
    pub fn state(&self, key: &FunctionKey) -> State {
        if self.resident.contains_key(key) { State::Loaded } else { State::Cold }
    }

    /// Evicts a revision. Calls in flight keep it alive until they end.
    pub async fn evict(&self, key: &FunctionKey) {
        self.resident.invalidate(key).await;
    }

    /// Drops all warm instances. They only save time, so memory that runs short is better used
    /// elsewhere.
    pub fn release_warm(&self) {
        self.node.warm.release_all();
    }

    /// Ends the invocations for which the host keeps most memory besides their linear one, until
    /// `bytes` are free. Returns how many it has ended, and what the host keeps for them.
    pub fn end_largest_holders(&self, bytes: u64) -> (usize, u64) {
        self.node.memory.holders.end_largest(bytes)
    }

    /// Evicts functions, drops warm instances and gives back memory that have been idle for too long.
    /// Must be called regularly: the cache has no thread of its own.
    pub async fn tidy(&self) {
        self.resident.run_pending_tasks().await;
        self.node.warm.tick();
        self.idle_memory.tick();
    }
}

fn resident_cache(bytes: u64, metrics: PoolMetrics) -> Cache<FunctionKey, Arc<Function>> {
    Cache::builder()
        .max_capacity(bytes)
        .weigher(|_, function: &Arc<Function>| {
            let names = function.template.names_bytes();
            let bytes = function.statistics.code_bytes + names + BESIDES_CODE;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        })
        .expire_after(IdleTime)
        // The default policy may refuse a new function that has not been called often enough.
        .eviction_policy(EvictionPolicy::lru())
        .eviction_listener(move |_key, _function, cause| {
            metrics.evictions.with_label_values(&[cause_label(cause)]).inc();
        })
        .build()
}

fn cause_label(cause: RemovalCause) -> &'static str {
    match cause {
        RemovalCause::Expired => "idle",
        RemovalCause::Explicit => "removed",
        RemovalCause::Replaced => "replaced",
        RemovalCause::Size => "capacity",
    }
}
