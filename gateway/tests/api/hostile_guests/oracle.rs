//! The invariants that must hold whatever a guest does.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{client::Http1, test_gateway::TestGateway};

/// The function that is called throughout.
const CANARY: &str = "c-hello";
/// The limit for one of its calls. Generous, because other programs run on this machine, too.
const SLOWEST: Duration = Duration::from_secs(5);
/// The time until the gateway must be back at its initial state.
const SETTLED: Duration = Duration::from_secs(10);
/// The memory that the process may keep by then.
const MORE_MEMORY: u64 = 32 << 20;

/// `ci` repetitions by default, and `long` with `MAYFLY_LONG=1`.
pub(crate) fn times(ci: usize, long: usize) -> usize {
    if std::env::var_os("MAYFLY_LONG").is_some_and(|value| value == "1") { long } else { ci }
}

/// The descriptors that the process may keep: the control plane's connections to this test.
const MORE_DESCRIPTORS: usize = 2;

/// Observes a gateway while a guest misbehaves.
pub(crate) struct GuestWatch {
    gateway: Arc<TestGateway>,
    before: Resources,
    outcomes: BTreeMap<String, u64>,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    canary: JoinHandle<u32>,
}

/// The resources that must return to their initial state.
#[derive(Clone, Copy, Debug)]
struct Resources {
    memory_bytes: u64,
    descriptors: usize,
    tasks: f64,
    live_instances: f64,
    instance_bytes: f64,
}

impl GuestWatch {
    /// Starts when every misbehaving guest has been deployed.
    pub(crate) async fn begin(gateway: &Arc<TestGateway>) -> Self {
        gateway.deploy(CANARY).await;
        // Threads, slots and buffers that are created once are created here.
        let mut connection = Http1::open(gateway.data()).await;
        for _ in 0..20 {
            connection.get("/f/c-hello/").await;
        }
        drop(connection);
        gateway.metric_becomes("mayfly_live_instances", 0.0).await;
        let before = Resources::of(gateway).await;
        let peak = Arc::new(AtomicU64::new(before.memory_bytes));
        let stop = Arc::new(AtomicBool::new(false));
        Self {
            before,
            outcomes: outcomes(gateway).await,
            canary: tokio::spawn(call_canary(
                Arc::clone(gateway),
                Arc::clone(&stop),
                Arc::clone(&peak),
            )),
            gateway: Arc::clone(gateway),
            peak,
            stop,
        }
    }

    /// The largest growth of the process's memory so far.
    pub(crate) fn grown_bytes(&self) -> u64 {
        self.peak.load(Relaxed) - self.before.memory_bytes
    }

    /// Ends the watch. Asserts that the canary was served and that the resources are back.
    pub(crate) async fn settles(self) {
        let Self { gateway, before, stop, canary, .. } = self;
        stop.store(true, Relaxed);
        assert!(canary.await.unwrap() > 0, "the canary was never answered");
        let deadline = Instant::now() + SETTLED;
        loop {
            let now = Resources::of(&gateway).await;
            if now.is_back_at(&before) {
                break;
            }
            assert!(Instant::now() < deadline, "before {before:?}, after {SETTLED:?} {now:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The same. Also asserts that requests to other functions than the canary have had exactly
    /// these outcomes, each this often.
    pub(crate) async fn end(self, expected: &[(&str, usize)]) {
        let (gateway, old) = (Arc::clone(&self.gateway), self.outcomes.clone());
        self.settles().await;
        let mut since = outcomes(&gateway).await;
        for (outcome, count) in old {
            *since.get_mut(&outcome).unwrap() -= count;
        }
        since.retain(|_, count| *count > 0);
        let expected: BTreeMap<_, _> = expected
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(outcome, count)| ((*outcome).to_owned(), *count as u64))
            .collect();
        assert_eq!(since, expected, "every request has one outcome and is counted once");
    }
}

impl Resources {
    async fn of(gateway: &TestGateway) -> Self {
        Self {
            memory_bytes: gateway.resident_bytes(),
            descriptors: descriptors(gateway.pid()),
            tasks: gateway.metric("mayfly_tasks").await,
            live_instances: gateway.metric("mayfly_live_instances").await,
            instance_bytes: gateway.metric("mayfly_instance_memory_bytes").await,
        }
    }

    fn is_back_at(&self, before: &Self) -> bool {
        self.memory_bytes <= before.memory_bytes + MORE_MEMORY
            && self.descriptors <= before.descriptors + MORE_DESCRIPTORS
            && self.tasks <= before.tasks
            && self.live_instances <= before.live_instances
            && self.instance_bytes <= before.instance_bytes
    }
}

/// The open descriptors but those of databases, which open more connections, up to a fixed number, when
/// they are used concurrently for the first time.
fn descriptors(pid: u32) -> usize {
    let of_databases = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        [".db", ".db-wal", ".db-shm"].iter().any(|end| name.ends_with(end))
    };
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    // One may be closed between the listing and this look.
    let paths = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    paths.filter(|path| !of_databases(path)).count()
}

/// Calls the canary until `stop` is set. Each response must be right and in time, so a crash of the
/// process shows, too. Records the peak of its memory.
async fn call_canary(
    gateway: Arc<TestGateway>,
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
) -> u32 {
    let mut connection = Http1::open(gateway.data()).await;
    let mut answers = 0;
    while !stop.load(Relaxed) {
        let since = Instant::now();
        assert_eq!(connection.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
        assert!(since.elapsed() < SLOWEST, "the canary waited {:?}", since.elapsed());
        answers += 1;
        peak.fetch_max(gateway.resident_bytes(), Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    answers
}

/// The number of requests with each outcome, without the canary's.
async fn outcomes(gateway: &TestGateway) -> BTreeMap<String, u64> {
    let metrics = gateway.api("/metrics").await;
    let mut outcomes = BTreeMap::new();
    for line in metrics.text().lines() {
        let Some(labels) = line.strip_prefix("mayfly_requests_total{") else { continue };
        if labels.contains(r#"function="c-hello""#) {
            continue;
        }
        let (_, rest) = labels.split_once(r#"outcome=""#).unwrap();
        let outcome = rest.split('"').next().unwrap();
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        *outcomes.entry(outcome.to_owned()).or_default() += count;
    }
    outcomes
}
