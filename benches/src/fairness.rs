//! Effect of endless loops, and of uploads that are compiled, on other functions: the latency of a
//! short function alone, beside loops and beside uploads, in turn; and how the loops end.
//!
//! The short function is called in two ways. Called back to back, its threads almost never sleep.
//! Called now and then, they must get a core back from a loop each time.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    client::{Client, get_request},
    gateway::{Gateway, GatewayOptions, path_of},
    generator::{self, Load, Plan},
    histogram::Histogram,
    report::{Findings, Spread, number, progress, table},
    storm::Storm,
};

/// How long the gateway may take until all loops run, and until all have ended.
const PATIENCE: Duration = Duration::from_secs(120);
/// Load before each measurement. In this time the loops spread over all cores that they can use.
const WARM_UP: Duration = Duration::from_millis(500);
/// Time between two calls when the short guest is called now and then.
const NOW_AND_THEN: Duration = Duration::from_millis(2);
/// Pause of a caller whose loop did not begin, so that callers do not flood a gateway that refuses.
const AFTER_REFUSAL: Duration = Duration::from_millis(10);

/// Options of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct FairnessOptions {
    /// The guest whose latency is measured
    #[arg(long, default_value = "hello")]
    pub guest: String,
    /// The guest that loops
    #[arg(long = "loop", default_value = "t-loop")]
    pub looping: String,
    /// Concurrent loops
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub loops: u32,
    /// CPU time that each loop may use
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=30_000))]
    pub cpu_ms: u64,
    /// Connections that call the short guest back to back
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub connections: u16,
    /// The guest that is uploaded repeatedly, each time with different bytes
    #[arg(long, default_value = "echo")]
    pub uploaded: String,
    /// Rounds; each measures the short guest alone, beside loops and beside uploads, in both ways
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Seconds that each sixth of a round takes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
}

/// Results of calling the short guest in one way for some seconds.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    requests_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    errors: u64,
}

/// Results of calling the short guest in both ways.
#[derive(Clone, Debug, Serialize)]
struct BothWays {
    back_to_back: Figures,
    now_and_then: Figures,
}

/// Selects one of the two ways.
type Way = fn(&BothWays) -> &Figures;

/// Results of one round.
#[derive(Clone, Debug, Serialize)]
struct Round {
    alone: BothWays,
    beside: BothWays,
    /// CPU time that the loops used in the round, by the gateway's metrics.
    loop_cpu_s: f64,
    beside_uploads: BothWays,
    /// Artifacts that were compiled in the round.
    compiled: u64,
}

/// The number of loops by the way in which they ended.
type Ends = BTreeMap<String, u64>;

/// Measures.
///
/// # Errors
/// When the gateway does not start, the loops do not begin, or what is needed is not built.
pub fn run(gateway: &GatewayOptions, options: &FairnessOptions) -> anyhow::Result<Findings> {
    let guests = gateway.guests(&[
        options.guest.clone(),
        options.looping.clone(),
        options.uploaded.clone(),
    ])?;
    let dir = gateway.temporary()?;
    let mut gateway = gateway.clone();
    // All connections come from one address; the default limit might refuse some of them.
    gateway.settings.insert(0, "server.connections_per_address=10000".into());
    gateway.settings.insert(0, "server.in_flight_per_address=10000".into());
    gateway.settings.insert(0, "quotas.compiles_per_minute=1000000".into());
    gateway.settings.insert(0, "quotas.changes_per_minute=1000000".into());
    let mayfly = Gateway::start(&gateway, &dir.path().join("data"))?;
    let (short, looping) = (&guests[0], &guests[1]);
    let settings = json!({ "cpu_ms": options.cpu_ms, "concurrency": options.loops });
    mayfly.deploy(&short.name, &short.wasm, &json!({}))?;
    mayfly.deploy(&looping.name, &looping.wasm, &settings)?;

    let uploads = Arc::new(AtomicU64::new(0));
    let mut ends = Ends::new();
    let mut rounds = Vec::new();
    let mut complaints = Vec::new();
    for number in 1..=options.rounds {
        let alone = both_ways(&mayfly, options, &mut complaints)?;
        let cpu_before = loop_cpu_s(&mayfly, options)?;
        let loops = Loops::start(&mayfly, options)?;
        let beside = both_ways(&mayfly, options, &mut complaints)?;
        loops.finish(&mut ends)?;
        let loop_cpu_s = loop_cpu_s(&mayfly, options)? - cpu_before;
        let storm = Storm::start(&mayfly, &guests[2], &uploads)?;
        let beside_uploads = both_ways(&mayfly, options, &mut complaints)?;
        let compiled = storm.finish()?;
        progress(&format!(
            "round {number}: p99 now and then {:.0} µs alone, {:.0} µs beside {} loops, {:.0} µs \
             beside uploads ({compiled})",
            alone.now_and_then.p99_us,
            beside.now_and_then.p99_us,
            options.loops,
            beside_uploads.now_and_then.p99_us,
        ));
        rounds.push(Round { alone, beside, loop_cpu_s, beside_uploads, compiled });
    }
    complaints.extend(mayfly.complaints());
    let markdown = format!("{}\n{}", latency_table(&rounds, options), ends_table(&ends));
    let figures = json!({ "rounds": rounds, "loops_ended": ends });
    Ok(Findings { markdown, figures, complaints })
}

/// Measures the short guest under the current load.
fn both_ways(
    mayfly: &Gateway,
    options: &FairnessOptions,
    complaints: &mut Vec<String>,
) -> anyhow::Result<BothWays> {
    Ok(BothWays {
        back_to_back: back_to_back(mayfly, options, complaints)?,
        now_and_then: now_and_then(mayfly, options, complaints)?,
    })
}

fn back_to_back(
    mayfly: &Gateway,
    options: &FairnessOptions,
    complaints: &mut Vec<String>,
) -> anyhow::Result<Figures> {
    let expected = Client::connect(mayfly.data)?.get(&path_of(&options.guest))?.body;
    let plan = Plan {
        addr: mayfly.data,
        request: get_request(mayfly.data, &path_of(&options.guest)),
        expected,
        load: Load::Closed,
        connections: options.connections.into(),
        threads: 1,
        retries: 0,
        warm_up: WARM_UP,
        measure: Duration::from_secs(options.seconds),
    };
    let (observed, ..) = generator::run(plan, || ())?;
    let errors = observed.failures() + observed.unanswered;
    complaints.extend(observed.first_error.map(|error| format!("the short guest: {error}")));
    Ok(Figures::of(&observed.latency, observed.elapsed, errors))
}

/// While an answer is late, the times of the next calls count from when these were due. One late
/// answer thus does not hide that other calls would have waited, too.
fn now_and_then(
    mayfly: &Gateway,
    options: &FairnessOptions,
    complaints: &mut Vec<String>,
) -> anyhow::Result<Figures> {
    let mut client = Client::connect(mayfly.data)?;
    let (mut latency, mut errors) = (Histogram::default(), 0);
    let started = Instant::now();
    let mut due = started;
    while started.elapsed() < Duration::from_secs(options.seconds) {
        due += NOW_AND_THEN;
        let early = due.saturating_duration_since(Instant::now());
        thread::sleep(early);
        // A late wake-up of this program is not the gateway's latency.
        let since = if early.is_zero() { due } else { Instant::now() };
        let answer = client.get(&path_of(&options.guest))?;
        if answer.status == 200 {
            latency.record(since.elapsed());
        } else {
            errors += 1;
            complaints.push(format!("the short guest: {} {}", answer.status, answer.text()));
        }
    }
    Ok(Figures::of(&latency, started.elapsed(), errors))
}

impl Figures {
    fn of(latency: &Histogram, elapsed: Duration, errors: u64) -> Self {
        Self {
            requests_per_s: latency.count() as f64 / elapsed.as_secs_f64(),
            p50_us: latency.quantile_us(0.5),
            p99_us: latency.quantile_us(0.99),
            p999_us: latency.quantile_us(0.999),
            max_us: latency.quantile_us(1.0),
            errors,
        }
    }
}

/// Callers of the looping guest. Each calls again when its loop has ended.
struct Loops {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<anyhow::Result<Ends>>>,
}

impl Loops {
    /// Returns when all loops run.
    fn start(mayfly: &Gateway, options: &FairnessOptions) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = Vec::new();
        for _ in 0..options.loops {
            let (addr, path, stop) = (mayfly.data, path_of(&options.looping), Arc::clone(&stop));
            let call = move || call_until(addr, &path, &stop);
            callers.push(thread::Builder::new().name("looping".into()).spawn(call)?);
        }
        let since = Instant::now();
        while mayfly.metric("mayfly_live_instances", "")? < f64::from(options.loops) {
            ensure!(since.elapsed() < PATIENCE, "the loops do not begin");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { stop, callers })
    }

    /// Waits until all loops have ended.
    fn finish(self, ends: &mut Ends) -> anyhow::Result<()> {
        self.stop.store(true, Relaxed);
        for caller in self.callers {
            let ended = caller.join().ok().context("a thread that calls loops panicked")??;
            for (end, count) in ended {
                *ends.entry(end).or_default() += count;
            }
        }
        Ok(())
    }
}

fn call_until(addr: SocketAddr, path: &str, stop: &AtomicBool) -> anyhow::Result<Ends> {
    let mut ends = Ends::new();
    let mut client = Client::connect(addr)?;
    while !stop.load(Relaxed) {
        let answer = client.get(path)?;
        let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = |field: &str| problem.get(field).and_then(Value::as_str).unwrap_or_default();
        let slug = said("type").rsplit(['/', ':', '#']).next().unwrap_or_default().to_owned();
        *ends.entry(format!("{} {slug}: {}", answer.status, said("detail"))).or_default() += 1;
        if answer.status != 504 {
            thread::sleep(AFTER_REFUSAL);
        }
    }
    Ok(ends)
}

fn loop_cpu_s(mayfly: &Gateway, options: &FairnessOptions) -> anyhow::Result<f64> {
    let label = format!("function=\"{}\"", options.looping);
    mayfly.metric("mayfly_cpu_seconds_total", &label)
}

fn latency_table(rounds: &[Round], options: &FairnessOptions) -> String {
    let ways: [(&str, Way); 2] =
        [("back to back", |both| &both.back_to_back), ("now and then", |both| &both.now_and_then)];
    let beside = format!("beside {} loops", options.loops);
    let mut rows = Vec::new();
    for (way, figures) in ways {
        let of = |part: fn(&Round) -> &BothWays| -> Vec<&Figures> {
            rounds.iter().map(|round| figures(part(round))).collect()
        };
        let alone = of(|round| &round.alone);
        rows.push(row(way, "alone", &alone, String::new()));
        let uploads = ("beside uploads", of(|round| &round.beside_uploads));
        for (what, loaded) in [(beside.as_str(), of(|round| &round.beside)), uploads] {
            let pairs = loaded.iter().zip(&alone);
            let ratios = pairs.map(|(loaded, alone)| loaded.p99_us / alone.p99_us);
            rows.push(row(way, what, &loaded, Spread::of(ratios).cell(2)));
        }
    }
    let header =
        ["called", "", "req/s", "p50 µs", "p99 µs", "÷ alone", "p99.9 µs", "max µs", "errors"];
    let cpu = Spread::of(rounds.iter().map(|round| round.loop_cpu_s)).cell(1);
    let compiled = Spread::of(rounds.iter().map(|round| round.compiled as f64)).cell(0);
    format!(
        "Guest: {}\n\n{}\nCPU seconds of the loops in a round: {cpu}, on {} cores. Compiled in a \
         round: {compiled} of {}.\n",
        options.guest,
        table(&header, &rows),
        thread::available_parallelism().map_or(1, usize::from),
        options.uploaded,
    )
}

fn row(way: &str, beside: &str, rounds: &[&Figures], ratio: String) -> Vec<String> {
    let spread = |figure: fn(&Figures) -> f64| {
        Spread::of(rounds.iter().map(|figures| figure(figures))).cell(0)
    };
    vec![
        way.to_owned(),
        beside.to_owned(),
        spread(|figures| figures.requests_per_s),
        spread(|figures| figures.p50_us),
        spread(|figures| figures.p99_us),
        ratio,
        spread(|figures| figures.p999_us),
        spread(|figures| figures.max_us),
        rounds.iter().map(|figures| figures.errors).sum::<u64>().to_string(),
    ]
}

fn ends_table(ends: &Ends) -> String {
    let rows: Vec<_> =
        ends.iter().map(|(end, count)| vec![end.clone(), number(*count as f64, 0)]).collect();
    table(&["how loops ended", "count"], &rows)
}
