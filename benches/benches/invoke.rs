//! The pool in process: what a call costs without HTTP.
//!
//! `functions/build all && cargo build --release -p gateway && cargo bench -p benches`
//!
//! - `invoke/<guest>`: the function is resident; each call has an instance of its own, and its
//!   response is read to the end.
//! - `cold_start/cold/<guest>`: the function has left memory. Its native code is on disk, in the
//!   page cache, and was verified by this process before.
//!
//! Guests that are not built are left out. Native code is kept between runs, beside the target
//! directory's other things, so that only the first run compiles.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use benches::{guest, process};
use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use http_body_util::BodyExt as _;
use prometheus::Registry;
use runtime_pool::{
    ArtifactDigest, Caller, CompileConfig, EngineConfig, Function, FunctionKey, Isolation, Limits,
    LoadError, LogLine, OutboundConfig, Pool, PoolConfig, PoolMetrics, RequestBody, Source, Start,
    WaitingConfig,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

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
/// After a function was dropped, its code is unmapped by another thread; it shall not do that
/// while the next load is timed.
const UNMAPPING: Duration = Duration::from_millis(1);

/// A pool as the gateway makes it.
struct Bench {
    runtime: Runtime,
    pool: Pool,
    /// Guests' output ends here: unread, what does not fit is dropped.
    _logs: mpsc::Receiver<LogLine>,
}

/// A guest that was compiled.
struct Candidate {
    name: &'static str,
    key: FunctionKey,
    source: Source,
}

impl Bench {
    fn new() -> Self {
        // As few threads as there can be: a call runs on the one that makes it.
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let (sender, logs) = mpsc::channel(1_024);
        let metrics = PoolMetrics::register(&Registry::new()).expect("the registry is empty");
        let pool = runtime.block_on(async { Pool::new(pool_config(), sender, metrics) });
        Self { pool: pool.expect("a pool starts"), runtime, _logs: logs }
    }

    /// The guests that are there, compiled and called once.
    fn candidates(&self) -> Vec<Candidate> {
        let found = GUESTS.iter().zip(1..).filter_map(|(name, function)| {
            let artifact = guest::dist().join(name).with_extension("wasm");
            let Ok(wasm) = std::fs::read(&artifact) else {
                say(&format!("left out: there is no {}", artifact.display()));
                return None;
            };
            let source = Source {
                digest: ArtifactDigest(Sha256::digest(&wasm).into()),
                artifact,
                label: (*name).into(),
                limits: Limits::default(),
                environment: Vec::new(),
                snapshot: None,
                outbound: Vec::new(),
                isolation: Isolation::Request,
                max_warm: 0,
            };
            Some(Candidate { name, key: FunctionKey { function, revision: 1 }, source })
        });
        let candidates: Vec<Candidate> = found.collect();
        for candidate in &candidates {
            self.runtime.block_on(async {
                let function = self.load(candidate).await;
                call(&function).await;
            });
        }
        candidates
    }

    async fn load(&self, candidate: &Candidate) -> Arc<Function> {
        let source = async { Ok::<_, LoadError>(candidate.source.clone()) };
        match self.pool.get_or_load(candidate.key, source).await {
            Ok((function, _start)) => function,
            Err(error) => panic!("{}: {error}", candidate.name),
        }
    }

    /// Makes a function leave memory, and waits until it has.
    async fn forget(&self, candidate: &Candidate) {
        let function = Arc::downgrade(&self.load(candidate).await);
        self.pool.evict(&candidate.key).await;
        // The cache drops what it has removed some time later.
        while function.strong_count() > 0 {
            self.pool.tidy().await;
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(UNMAPPING).await;
    }
}

fn pool_config() -> PoolConfig {
    let worker = process::sibling("mayfly").unwrap_or_else(|error| panic!("{error}"));
    PoolConfig {
        engine: EngineConfig { instances: 1_000, memory_bytes_max: 512 << 20, async_engine: true },
        compile: CompileConfig {
            dir: native_code_dir(),
            worker,
            jobs: 1,
            queue: 32,
            memory_bytes: 3 << 30,
            cpu_s: 120,
            wall: Duration::from_secs(240),
            output_bytes: 256 << 20,
        },
        outbound: OutboundConfig::default(),
        resident_bytes: 1 << 30,
        loads: 4,
        waiting: WaitingConfig { instances: 0, bytes: 0, worthwhile: Duration::MAX },
    }
}

/// In the profile's directory, two above this program.
fn native_code_dir() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program is known");
    let profile = this.ancestors().nth(2).expect("cargo puts benchmarks into `deps`");
    profile.join("bench-native-code")
}

/// One call, read to the end.
async fn call(function: &Arc<Function>) {
    let request = http::Request::get("http://bench.localhost/")
        .header(http::header::HOST, "bench.localhost")
        .body(RequestBody::Empty)
        .expect("the request is valid");
    let caller = Caller {
        invocation: 1,
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        mount: "".into(),
    };
    let (response, _start) = match function.invoke(request, caller, Start::resident()).await {
        Ok(answered) => answered,
        Err(error) => panic!("a guest failed: {error}"),
    };
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await;
    assert!(!body.expect("the body arrives").to_bytes().is_empty());
}

fn invoke(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("invoke");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for candidate in bench.candidates() {
        // Held, so that no idle time ends it.
        let function = bench.runtime.block_on(bench.load(&candidate));
        group.bench_function(candidate.name, |bencher| {
            bencher.to_async(&bench.runtime).iter(|| call(&function));
        });
    }
    group.finish();
}

fn cold_start(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("cold_start");
    // Evicting takes longer than loading and is not counted: a second is many on the wall.
    group.sample_size(30).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    for candidate in bench.candidates() {
        group.bench_function(BenchmarkId::new("cold", candidate.name), |bencher| {
            bencher.to_async(&bench.runtime).iter_custom(async |count| {
                let mut took = Duration::ZERO;
                for _ in 0..count {
                    bench.forget(&candidate).await;
                    let started = Instant::now();
                    let function = bench.load(&candidate).await;
                    call(&function).await;
                    took += started.elapsed();
                }
                took
            });
        });
    }
    group.finish();
}

fn say(text: &str) {
    // Nobody to tell when that fails.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

criterion_group!(benches, invoke, cold_start);
criterion_main!(benches);
