//! A pool in a directory of its own, and the steps that many tests share.

use std::{
    fs, future,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use prometheus::{Registry, proto::Metric};
use runtime_pool::{
    ArtifactDigest, BodyError, BufferConfig, CompileConfig, EngineConfig, Function, FunctionCall,
    FunctionKey, FunctionSpec, InvocationContext, InvokeError, Isolation, Limits, LoadError,
    LogLine, OutboundConfig, Pool, PoolConfig, PoolMetrics, RequestBody, Response, Start, Tier,
    WarmConfig,
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time};

use crate::program::steps;

/// How long a test waits for a condition before it fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// A pool in a directory of its own, which is removed with it.
pub(crate) struct TestPool {
    pub(crate) pool: Arc<Pool>,
    pub(crate) logs: mpsc::Receiver<LogLine>,
    registry: Registry,
    dir: TempDir,
}

impl TestPool {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A pool whose configuration differs from that of the other tests.
    pub(crate) fn with(change: impl FnOnce(&mut PoolConfig)) -> Self {
        Self::start(tempfile::tempdir().unwrap(), change)
    }

    /// A new pool on the directory of this one, as after a restart of the gateway.
    pub(crate) fn restart(self) -> Self {
        let Self { pool, dir, .. } = self;
        drop(pool);
        Self::start(dir, |_| {})
    }

    fn start(dir: TempDir, change: impl FnOnce(&mut PoolConfig)) -> Self {
        let mut config = config(dir.path());
        change(&mut config);
        let registry = Registry::new();
        let metrics = PoolMetrics::register(&registry).unwrap();
        let (sender, logs) = mpsc::channel(1_000);
        let pool = Arc::new(Pool::new(config, sender, metrics).unwrap());
        Self { pool, logs, registry, dir }
    }

    /// Where artifacts and other files of a test are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where native code is.
    pub(crate) fn code_dir(&self) -> PathBuf {
        code_dir(self.dir())
    }

    /// A revision of these bytes, which are stored as an artifact.
    pub(crate) fn spec(&self, wasm: &[u8]) -> FunctionSpec {
        let digest = ArtifactDigest(Sha256::digest(wasm).into());
        let artifact = self.dir().join(format!("{:?}.wasm", blake3::Hash::from_bytes(digest.0)));
        fs::write(&artifact, wasm).unwrap();
        FunctionSpec {
            tenant: "default".into(),
            name: "test".into(),
            digest,
            artifact,
            label: "test".into(),
            limits: Limits::default(),
            environment: Vec::new(),
            outbound: Vec::new(),
            credentials: Vec::new(),
            isolation: Isolation::Request,
            capabilities: None,
            files: None,
            max_warm: 0,
            arguments: Vec::new(),
            // The steps of a program come while it runs.
            stream_body: true,
            snapshot: None,
        }
    }

    /// The resident function, loaded first if need be.
    pub(crate) async fn load(
        &self,
        key: FunctionKey,
        spec: &FunctionSpec,
    ) -> (Arc<Function>, Start) {
        self.try_load(key, spec).await.unwrap()
    }

    pub(crate) async fn try_load(
        &self,
        key: FunctionKey,
        spec: &FunctionSpec,
    ) -> Result<(Arc<Function>, Start), Arc<LoadError>> {
        self.pool.get_or_load(key, future::ready(Ok::<_, LoadError>(spec.clone()))).await
    }

    /// The tier from which a function is loaded.
    pub(crate) async fn tier(&self, key: FunctionKey, spec: &FunctionSpec) -> Tier {
        self.load(key, spec).await.1.tier
    }

    /// The value of a gauge.
    pub(crate) fn gauge(&self, name: &str) -> f64 {
        let metrics = self.metrics(name);
        assert_eq!(metrics.len(), 1, "{name}");
        metrics[0].get_gauge().get_value()
    }

    /// The sum of all counters of this name. A counter with labels exists once it has counted.
    pub(crate) fn counter(&self, name: &str) -> f64 {
        self.metrics(name).iter().map(|metric| metric.get_counter().get_value()).sum()
    }

    /// The value of a counter that has this label.
    pub(crate) fn labelled(&self, name: &str, label: &str) -> f64 {
        let metrics = self.metrics(name);
        let is_meant = |metric: &&Metric| metric.get_label().iter().any(|l| l.value() == label);
        metrics.iter().filter(is_meant).map(|metric| metric.get_counter().get_value()).sum()
    }

    fn metrics(&self, name: &str) -> Vec<Metric> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        family.map(|family| family.get_metric().to_vec()).unwrap_or_default()
    }

    /// The number of compilations.
    pub(crate) fn compilations(&self) -> f64 {
        self.counter("mayfly_compilations_total")
    }

    /// Lets functions and warm instances leave whose time has come, until a condition holds.
    pub(crate) async fn tidy_until(&self, what: &str, condition: impl Fn() -> bool) {
        let since = Instant::now();
        while !condition() {
            assert!(since.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
            self.pool.tidy().await;
            time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until no invocation holds anything of the pool.
    pub(crate) async fn all_is_given_back(&self) {
        let held = ["mayfly_live_instances", "mayfly_instance_memory_bytes"];
        until("all is released", || held.iter().all(|name| self.gauge(name) == 0.0)).await;
        assert_eq!(self.gauge("mayfly_waiting_invocations"), 0.0);
    }
}

fn code_dir(dir: &Path) -> PathBuf {
    dir.join("native-code")
}

fn config(dir: &Path) -> PoolConfig {
    PoolConfig {
        // So few that calls fail if one is not released.
        engine: EngineConfig { instances: 8, ..EngineConfig::default() },
        compile: CompileConfig {
            worker: env!("CARGO_BIN_EXE_compile-worker-for-tests").into(),
            dir: code_dir(dir),
            jobs: 2,
            queue: 32,
            memory_bytes: 3 << 30,
            cpu_s: 60,
            wall: Duration::from_secs(120),
            output_bytes: 256 << 20,
            deploys_per_minute: usize::MAX,
            core_modules: true,
            code_bytes: u64::MAX,
        },
        outbound: OutboundConfig::default(),
        memory_bytes: 1 << 30,
        buffers: BufferConfig { dir: dir.to_owned(), bytes: 1 << 30 },
        resident_bytes: 1 << 30,
        loads: 4,
        queue: 100,
        max_lag: Duration::ZERO,
        // No instance is kept warm unless a test asks for that.
        warm: WarmConfig { instances: 100, bytes: 1 << 30, worthwhile: Duration::MAX },
    }
}

/// Limits the instances that may live at once. Wasmtime reserves at least as many memories as one
/// artifact may have, so an artifact may have one.
pub(crate) fn set_instances(config: &mut PoolConfig, instances: u32) {
    config.engine.instances = instances;
    config.engine.artifact.memories = 1;
}

/// Makes a shell script the compile worker. `$worker` is the real one, `$dir` the directory of the
/// test.
pub(crate) fn set_worker_script(config: &mut CompileConfig, script: &str) {
    let dir = config.dir.parent().unwrap();
    let (dir, worker) = (dir.to_owned(), config.worker.display());
    let script = format!("#!/bin/sh\ndir={} worker={worker}\n{script}\n", dir.display());
    config.worker = dir.join("worker");
    fs::write(&config.worker, script).unwrap();
    fs::set_permissions(&config.worker, fs::Permissions::from_mode(0o700)).unwrap();
}

/// The key of a function's first revision.
pub(crate) fn key(function: i64) -> FunctionKey {
    FunctionKey { function, revision: 1, generation: 0, overlay: 0 }
}

/// Starts a call and waits for the head of its response.
pub(crate) async fn invoke(
    function: &Arc<Function>,
    target: &str,
    body: RequestBody,
) -> Result<(Response, Start), InvokeError> {
    invoke_beside(0, function, target, body).await
}

/// Starts a call of a caller that has `others` in flight.
pub(crate) async fn invoke_of_a_caller_with(
    others: usize,
    function: &Arc<Function>,
) -> Result<(Response, Start), InvokeError> {
    invoke_beside(others, function, "/", steps("hx")).await
}

async fn invoke_beside(
    others: usize,
    function: &Arc<Function>,
    target: &str,
    body: RequestBody,
) -> Result<(Response, Start), InvokeError> {
    let request = http::Request::post(format!("http://test.localhost{target}"))
        .header(http::header::HOST, "test.localhost")
        .body(body)
        .unwrap();
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let context = InvocationContext {
        invocation: 1,
        peer,
        https: false,
        mount: "".into(),
        cdn_loop: None,
        others,
        timeout: None,
    };
    function.invoke(FunctionCall::new(request, context), Start::resident(), Instant::now()).await
}

/// Calls the program with these steps and waits for the head of its response.
pub(crate) async fn run(
    function: &Arc<Function>,
    body: &str,
) -> Result<(Response, Start), InvokeError> {
    invoke(function, "/", steps(body)).await
}

/// Starts a call in a task of its own.
pub(crate) fn spawn(
    function: &Arc<Function>,
    body: RequestBody,
) -> JoinHandle<Result<(Response, Start), InvokeError>> {
    let function = Arc::clone(function);
    tokio::spawn(async move { invoke(&function, "/", body).await })
}

/// Reads the body of a response to its end.
pub(crate) async fn body(response: Response) -> Result<Bytes, BodyError> {
    let collected = time::timeout(DEADLINE, response.into_body().collect()).await;
    Ok(collected.expect("the body ends")?.to_bytes())
}

/// The body of the response to a request without one.
pub(crate) async fn answer(function: &Arc<Function>, target: &str) -> String {
    let (response, _) = invoke(function, target, RequestBody::Empty).await.unwrap();
    String::from_utf8(body(response).await.unwrap().to_vec()).unwrap()
}

/// Asserts that the program answers.
pub(crate) async fn answers(function: &Arc<Function>) {
    let (response, _) = run(function, "hx").await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(body(response).await.unwrap(), "x".repeat(crate::program::X_BYTES));
}

/// Waits for a condition, for [`DEADLINE`] at most.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        time::sleep(Duration::from_millis(1)).await;
    }
}

/// The bytes of `functions/dist/{name}.wasm`, brought up to date first. The script has a lock of its
/// own and is quick where there is nothing to do; `MAYFLY_GUESTS_BUILT=1` says that it has just run.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions");
    if std::env::var_os("MAYFLY_GUESTS_BUILT").is_none_or(|value| value != "1") {
        let built = Command::new(functions.join("build")).arg(name).output().unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "functions/build {name} failed: {said}");
    }
    let path = functions.join("dist").join(name).with_extension("wasm");
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
