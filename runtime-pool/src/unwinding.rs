//! Panics within host calls: they end one call, all that it held is given back, and others go on.
//!
//! Only tests have this module. In them, guests find among what they may import some host calls
//! that panic when they are asked for a certain number, and otherwise do as usual.

use std::{
    fs, future,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use prometheus::Registry;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::JoinSet, time};
use wasmtime::{Caller as Asking, Linker, component};

use crate::{
    code::cache::CodeCache,
    host::{Host, ModuleHost},
    outbound::OutboundConfig,
    pool::linker::Linkers,
    *,
};

/// Random bytes, or milliseconds of sleep, that are asked for where the host shall panic at once.
const AT_ONCE: u64 = 2_801;
/// The same where it shall panic after it has waited for something.
const AFTER_A_PAUSE: u64 = 2_802;
/// Calls that panic, of all kinds together.
const PANICS: usize = 1_000;
/// Calls at once.
const AT_THE_SAME_TIME: usize = 8;

async fn random(bytes: u64) -> wasmtime::Result<Vec<u8>> {
    if bytes == AFTER_A_PAUSE {
        time::sleep(Duration::from_micros(100)).await;
    }
    assert!(bytes != AT_ONCE && bytes != AFTER_A_PAUSE, "on purpose");
    Ok(vec![0; usize::try_from(bytes)?])
}

pub(crate) fn in_wasi_02(linker: &mut component::Linker<Host>) -> wasmtime::Result<()> {
    in_random(linker, "wasi:random/random@0.2.12")
}

pub(crate) fn in_wasi_03(linker: &mut component::Linker<Host>) -> wasmtime::Result<()> {
    in_random(linker, "wasi:random/random@0.3.0")?;
    // No call of one fiber, but a task of the store's own.
    linker.instance("wasi:clocks/monotonic-clock@0.3.0")?.func_wrap_concurrent(
        "wait-for",
        |_, (nanoseconds,): (u64,)| {
            Box::pin(async move { random(nanoseconds / 1_000_000).await.map(drop) })
        },
    )
}

fn in_random(linker: &mut component::Linker<Host>, interface: &str) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(interface)?.func_wrap_async("get-random-bytes", |_, (bytes,): (u64,)| {
        Box::new(async move { Ok((random(bytes).await?,)) })
    })
}

pub(crate) fn in_preview1(linker: &mut Linker<ModuleHost>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.func_wrap_async(
        "wasi_snapshot_preview1",
        "random_get",
        |_: Asking<'_, ModuleHost>, (_, bytes): (i32, i32)| {
            // The guest's buffer is left as it is: nobody looks at it.
            Box::new(async move { random(bytes.unsigned_abs().into()).await.map(|_| 0) })
        },
    )?;
    Ok(())
}

/// A guest and how to make it ask for a number; with `first`, after so much of its answer.
struct Asker {
    name: &'static str,
    path: &'static str,
}

const ASKERS: [Asker; 4] = [
    Asker { name: "t-hostile", path: "/random?bytes=" },
    Asker { name: "t-hostile-p3", path: "/random?n=" },
    Asker { name: "t-hostile-p3", path: "/wait?ms=" },
    Asker { name: "t-hostile-cgi", path: "/random?bytes=" },
];

/// How a call came out.
#[derive(Debug, PartialEq)]
enum Outcome {
    Answered(String),
    BrokenOff,
    Panicked,
}

async fn call(function: &Arc<Function>, target: &str) -> Outcome {
    let request = http::Request::get(format!("http://test.localhost{target}"))
        .header(http::header::HOST, "test.localhost")
        .body(RequestBody::Empty)
        .unwrap();
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let caller = InvocationContext { invocation: 1, peer, mount: "".into(), cdn_loop: None };
    let invoked = function.invoke(request, caller, Start::resident(), Instant::now());
    // As the gateway does it.
    let Ok(invoked) = AssertUnwindSafe(invoked).catch_unwind().await else {
        return Outcome::Panicked;
    };
    let (response, _) = invoked.unwrap();
    // A client that is told nothing would wait for ever.
    let body = time::timeout(Duration::from_secs(60), response.into_body().collect()).await;
    match body.expect("the body comes to an end") {
        Ok(body) => Outcome::Answered(String::from_utf8(body.to_bytes().to_vec()).unwrap()),
        Err(_) => Outcome::BrokenOff,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g28_a_thousand_panics_within_host_calls_end_a_thousand_calls_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = PoolMetrics::register(&Registry::new()).unwrap();
    let pool = pool(dir.path(), metrics.clone()).await;
    let mut functions = Vec::new();
    for (number, asker) in ASKERS.iter().enumerate() {
        let key = FunctionKey { function: number as i64, revision: 1, generation: 0 };
        let source = future::ready(Ok::<_, LoadError>(source(&guest(asker.name))));
        functions.push(pool.get_or_load(key, source).await.unwrap().0);
    }

    let mut calls = JoinSet::new();
    let mut broken_off = 0;
    for n in 0..PANICS {
        let asker = &ASKERS[n % ASKERS.len()];
        let function = Arc::clone(&functions[n % ASKERS.len()]);
        let turn = n / ASKERS.len();
        let number = [AT_ONCE, AFTER_A_PAUSE][turn % 2];
        // In the request's own task, and in the task that a guest goes on in after its head.
        let (first, expected) = match turn % 4 {
            0 | 1 => ("", Outcome::Panicked),
            _ => ("&first=200000", Outcome::BrokenOff),
        };
        broken_off += u64::from(expected == Outcome::BrokenOff);
        let (bad, good) = (format!("{}{number}{first}", asker.path), format!("{}7", asker.path));
        calls.spawn(async move {
            assert_eq!(call(&function, &bad).await, expected, "{bad}");
            match call(&function, &good).await {
                Outcome::Answered(text) => assert_eq!(text.trim_end(), "7", "{good}"),
                other => panic!("{good}: {other:?}"),
            }
        });
        if calls.len() == AT_THE_SAME_TIME {
            calls.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }

    let settled = async {
        while functions.iter().any(|function| function.running_invocations() > 0)
            || metrics.live_instances.get() > 0
            || metrics.memory_bytes.get() > 0
        {
            time::sleep(Duration::from_millis(1)).await;
        }
    };
    time::timeout(Duration::from_secs(60), settled).await.expect("all is given back");
    assert_eq!(metrics.responses_aborted.get(), broken_off);
}

/// A pool with room for as many instances as there are calls at once: one that were not given
/// back would be missed. It finds the guests' native code made.
async fn pool(dir: &Path, metrics: PoolMetrics) -> Pool {
    let engine = EngineConfig { instances: AT_THE_SAME_TIME as u32, ..EngineConfig::default() };
    let linkers = Linkers::new(&engine).unwrap();
    let cache = CodeCache::open(dir, linkers.compatibility().unwrap()).unwrap();
    for asker in &ASKERS {
        let wasm = guest(asker.name);
        let inspection = inspect(&wasm, &crate::ArtifactLimits::default()).unwrap();
        let engine = engine::compiling_engine(inspection.kind.engine()).unwrap();
        let native = match inspection.kind {
            Kind::WasiPreview1 => engine.precompile_module(&wasm),
            _ => engine.precompile_component(&wasm),
        };
        let mut file = cache.temporary().unwrap();
        file.write_all(&native.unwrap()).unwrap();
        cache.store(&source(&wasm).code_key(), inspection, file).unwrap();
    }
    drop(linkers);
    let compile = CompileConfig {
        worker: "/nonexistent".into(),
        dir: dir.to_owned(),
        jobs: 1,
        queue: 1,
        memory_bytes: 1,
        cpu_s: 1,
        wall: Duration::from_secs(1),
        output_bytes: 1,
        deploys_per_minute: 1,
    };
    let config = PoolConfig {
        engine,
        compile,
        outbound: OutboundConfig::default(),
        memory_bytes: u64::MAX,
        resident_bytes: 1 << 30,
        loads: 4,
        queue: 100,
        max_lag: Duration::ZERO,
        warm: WarmConfig { instances: 0, bytes: 0, worthwhile: Duration::MAX },
    };
    Pool::new(config, mpsc::channel(1).0, metrics).unwrap()
}

fn source(wasm: &[u8]) -> FunctionSpec {
    FunctionSpec {
        tenant: "default".into(),
        digest: ArtifactDigest(Sha256::digest(wasm).into()),
        artifact: "/nonexistent".into(),
        label: "test".into(),
        limits: Limits::default(),
        environment: Vec::new(),
        outbound: Vec::new(),
        credentials: Vec::new(),
        isolation: Isolation::Request,
        max_warm: 0,
        snapshot: None,
    }
}

/// The bytes of `functions/dist/{name}.wasm`, brought up to date first.
fn guest(name: &str) -> Vec<u8> {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions");
    if std::env::var_os("MAYFLY_GUESTS_BUILT").is_none_or(|value| value != "1") {
        let built = Command::new(functions.join("build")).arg(name).status().unwrap();
        assert!(built.success(), "functions/build {name} failed");
    }
    let path = functions.join("dist").join(name).with_extension("wasm");
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
