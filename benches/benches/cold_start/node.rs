//! A pool like the gateway's, and the guests that are built.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use benches::guest;
use http_body_util::BodyExt as _;
use prometheus::Registry;
use runtime_pool::{
    ArtifactDigest, BufferConfig, CompileConfig, EngineConfig, Function, FunctionCall, FunctionKey,
    FunctionSpec, InvocationContext, Isolation, Limits, LoadError, LogLine, OutboundConfig, Phase,
    Phases, Pool, PoolConfig, PoolMetrics, RequestBody, Tier, WarmConfig,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use crate::report_skipped;

const GUESTS: [&str; 8] = [
    "c-hello",
    "hello",
    "hello-cgi",
    "c-hello-cgi",
    "hello-p3",
    "go-hello",
    "js-hello",
    "python-hello",
];
/// Pause after a function was dropped: another thread unmaps its code, which must not overlap with
/// the next measured load.
const UNMAPPING: Duration = Duration::from_millis(1);

/// A pool with its own runtime.
pub(crate) struct Node {
    pub(crate) runtime: Runtime,
    pool: Pool,
    ready: RefCell<HashSet<&'static str>>,
    /// Receives the guests' output. It is never read, so the pool drops lines once it is full.
    _logs: mpsc::Receiver<LogLine>,
}

/// A built guest.
pub(crate) struct Candidate {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
    key: FunctionKey,
    artifact: PathBuf,
    source: OnceCell<FunctionSpec>,
}

/// The times of one start.
pub(crate) struct Start {
    pub(crate) total: Duration,
    phases: Phases,
}

/// The guests that are built.
pub(crate) fn candidates() -> Vec<Candidate> {
    let found = GUESTS.iter().zip(1..).filter_map(|(name, function)| {
        let artifact = guest::dist().join(name).with_extension("wasm");
        let Ok(metadata) = artifact.metadata() else {
            report_skipped(name, &format!("not built; functions/build {name}"));
            return None;
        };
        let key = FunctionKey { function, revision: 1, generation: 0, overlay: 0 };
        Some(Candidate { name, bytes: metadata.len(), key, artifact, source: OnceCell::new() })
    });
    found.collect()
}

impl Start {
    /// The duration of a phase.
    pub(crate) fn phase(&self, phase: Phase) -> Duration {
        self.phases.get(phase).unwrap_or_default()
    }

    /// Time outside all phases: the look-up in the pool, creating the store, dropping the instance
    /// and resetting its slot.
    pub(crate) fn rest(&self) -> Duration {
        self.total.saturating_sub(self.phases.iter().map(|(_, took)| took).sum())
    }
}

impl Candidate {
    fn source(&self) -> &FunctionSpec {
        self.source.get_or_init(|| {
            let wasm = std::fs::read(&self.artifact).unwrap();
            FunctionSpec {
                tenant: "default".into(),
                name: self.name.into(),
                digest: ArtifactDigest(Sha256::digest(wasm).into()),
                artifact: self.artifact.clone(),
                label: self.name.into(),
                limits: Limits::default(),
                environment: Vec::new(),
                outbound: Vec::new(),
                credentials: Vec::new(),
                isolation: Isolation::Request,
                capabilities: None,
                files: None,
                max_warm: 0,
                arguments: Vec::new(),
                stream_body: false,
                snapshot: None,
            }
        })
    }
}

impl Node {
    pub(crate) fn new() -> Self {
        // A single thread: a call runs on its caller's thread.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, logs) = mpsc::channel(1_024);
        let metrics = PoolMetrics::register(&Registry::new()).unwrap();
        let pool = runtime.block_on(async { Pool::new(pool_config(), sender, metrics) }).unwrap();
        Self { runtime, pool, ready: RefCell::default(), _logs: logs }
    }

    /// Compiles a guest and calls it, in the first benchmark that needs it.
    pub(crate) fn prepare(&self, candidate: &Candidate) {
        if self.ready.borrow_mut().insert(candidate.name) {
            self.runtime.block_on(async {
                self.forget(candidate).await;
                self.start(candidate, candidate.key).await;
            });
        }
    }

    /// Calls the guest from `tier`, and measures the time to the end of the answer.
    pub(crate) async fn start_from(&self, tier: Tier, candidate: &Candidate) -> Start {
        let mut key = candidate.key;
        match tier {
            Tier::Frozen => {
                self.forget(candidate).await;
                self.pool.forget_artifact(candidate.source().digest).await;
            }
            Tier::Cold => self.forget(candidate).await,
            Tier::Loaded => {}
            Tier::Warm => {
                // Another revision, so that the benchmarks of other tiers find no warm instance.
                key.revision += 1;
                self.make_warm(candidate, key).await;
            }
        }
        let start = self.start(candidate, key).await;
        assert_eq!(start.0, tier, "{}", candidate.name);
        start.1
    }

    /// Calls the guest from its current tier, and measures the time to the end of the answer.
    async fn start(&self, candidate: &Candidate, key: FunctionKey) -> (Tier, Start) {
        let source = candidate.source();
        let began = Instant::now();
        let (function, start) = self.load(candidate, key, source).await;
        let start = call(&function, start).await;
        (start.tier, Start { total: began.elapsed(), phases: start.phases })
    }

    async fn load(
        &self,
        candidate: &Candidate,
        key: FunctionKey,
        source: &FunctionSpec,
    ) -> (Arc<Function>, runtime_pool::Start) {
        let source = async { Ok::<_, LoadError>(source.clone()) };
        match self.pool.get_or_load(key, source).await {
            Ok(loaded) => loaded,
            Err(error) => panic!("{}: {error}", candidate.name),
        }
    }

    /// Makes a warm instance.
    async fn make_warm(&self, candidate: &Candidate, key: FunctionKey) {
        let (function, _) = self.load(candidate, key, candidate.source()).await;
        while function.warm_instances() == 0 {
            function.keep_warm(1);
            tokio::task::yield_now().await;
        }
    }

    /// Evicts a function and waits until it has left memory.
    async fn forget(&self, candidate: &Candidate) {
        let function =
            Arc::downgrade(&self.load(candidate, candidate.key, candidate.source()).await.0);
        self.pool.evict(&candidate.key).await;
        // The pool drops evicted functions in the background.
        while function.strong_count() > 0 {
            self.pool.tidy().await;
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(UNMAPPING).await;
    }
}

fn pool_config() -> PoolConfig {
    PoolConfig {
        engine: EngineConfig::default(),
        compile: CompileConfig {
            dir: native_code_dir(),
            worker: "/proc/self/exe".into(),
            jobs: 1,
            queue: 32,
            memory_bytes: 3 << 30,
            cpu_s: 120,
            wall: Duration::from_secs(240),
            output_bytes: 256 << 20,
            deploys_per_minute: usize::MAX,
            core_modules: true,
            code_bytes: u64::MAX,
        },
        outbound: OutboundConfig::default(),
        memory_bytes: u64::MAX,
        buffers: BufferConfig { dir: std::env::temp_dir(), bytes: 1 << 30 },
        resident_bytes: 1 << 30,
        loads: 4,
        queue: 2_000,
        max_lag: Duration::ZERO,
        // The pool makes only the warm instances that a benchmark asks for.
        warm: WarmConfig { instances: 100, bytes: 1 << 30, worthwhile: Duration::MAX },
    }
}

/// In the profile's directory, two levels above this program. It is kept, so that only the first
/// run compiles.
fn native_code_dir() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    this.ancestors().nth(2).unwrap().join("bench-native-code")
}

/// Makes one call and reads its response to the end.
async fn call(function: &Arc<Function>, start: runtime_pool::Start) -> runtime_pool::Start {
    let request = http::Request::get("http://bench.localhost/")
        .header(http::header::HOST, "bench.localhost")
        .body(RequestBody::Empty)
        .unwrap();
    let caller = InvocationContext {
        invocation: 1,
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        https: false,
        mount: "".into(),
        cdn_loop: None,
        others: 0,
        timeout: None,
    };
    let (response, start) =
        match function.invoke(FunctionCall::new(request, caller), start, Instant::now()).await {
            Ok(answered) => answered,
            Err(error) => panic!("a guest failed: {error}"),
        };
    assert_eq!(response.status(), 200);
    assert!(!response.into_body().collect().await.unwrap().to_bytes().is_empty());
    start
}
