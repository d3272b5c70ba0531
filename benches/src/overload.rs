//! Overload: how many requests the gateway answers, how many it refuses, and how quickly, at
//! several multiples of its capacity.
//!
//! The load is an open loop, so that requests come whatever the gateway does. It goes to two
//! functions in turn: one computes and exhausts the processors, the other waits and exhausts its
//! concurrency slots. Meanwhile the control plane is probed.

use std::{
    fs,
    net::SocketAddr,
    num::NonZero,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::json;

use crate::{
    chart::{Chart, Colour, Line, Panel, Scale},
    client::{Client, get_request},
    gateway::{Gateway, GatewayOptions, path_of},
    generator::{self, Load, Observed, Plan},
    histogram::Histogram,
    report::{Findings, number, progress, table},
};

/// Pause between two probes of the control plane.
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// A load of callers that retry at once: the number of retries, and the multiple of the capacity.
const IMPATIENT: (u32, f64) = (3, 2.0);
/// The load after the overload, at which the gateway should behave as before.
const AFTERWARDS: f64 = 0.8;

/// Options of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct OverloadOptions {
    /// Loads, as multiples of the gateway's capacity
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.8,1,1.5,2,3,5")]
    pub factors: Vec<f64>,
    /// Seconds at each load
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Connections of the load generator
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=8_000))]
    pub connections: u16,
    /// Iterations of the computing function: 250,000 take about half a millisecond
    #[arg(long, default_value_t = 250_000)]
    pub turns: u64,
    /// Milliseconds for which the waiting function waits
    #[arg(long, default_value_t = 50)]
    pub wait_ms: u64,
    /// Directory to write plots to [default: no plots]
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
}

/// An offered load.
#[derive(Clone, Debug, Serialize)]
struct Offer {
    /// Multiple of the capacity.
    factor: f64,
    per_s: f64,
    /// How often a refused request is retried at once.
    retries: u32,
}

impl Offer {
    fn label(&self) -> String {
        match self.retries {
            0 => format!("{} ×", self.factor),
            retries => format!("{} ×, {retries} retries", self.factor),
        }
    }
}

/// One function at one load.
#[derive(Clone, Debug, Serialize)]
struct Row {
    function: &'static str,
    offer: Offer,
    /// Correct answers.
    goodput_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Refusals with `retry-after`.
    refused_per_s: f64,
    refused_p50_ms: f64,
    refused_p99_ms: f64,
    /// Other failures: broken connections, other statuses.
    errors: u64,
    /// Requests without an answer five seconds after the end.
    unanswered: u64,
    rss_mb: f64,
    /// Latency of the probes of the control plane.
    control_p99_ms: f64,
    control_errors: u64,
}

/// A function, and the query of its calls.
struct Subject {
    name: &'static str,
    guest: &'static str,
    query: String,
}

/// Measures.
///
/// # Errors
/// When the gateway does not start or what is needed is not built.
pub fn run(gateway: &GatewayOptions, options: &OverloadOptions) -> anyhow::Result<Findings> {
    let subjects = [
        Subject { name: "computes", guest: "t-work", query: format!("?turns={}", options.turns) },
        Subject { name: "waits", guest: "t-sleep", query: format!("?ms={}", options.wait_ms) },
    ];
    let guests = gateway.guests(&subjects.each_ref().map(|subject| subject.guest.to_owned()))?;
    let dir = gateway.temporary()?;
    let mut gateway = gateway.clone();
    // All connections come from one address; the default limit would refuse most of them.
    gateway.settings.insert(0, "server.connections_per_address=10000".into());
    gateway.settings.insert(0, "server.in_flight_per_address=10000".into());
    let mut rows = Vec::new();
    let mut capacities = Vec::new();
    let mut complaints = Vec::new();
    for (subject, guest) in subjects.iter().zip(&guests) {
        let data_dir = dir.path().join(subject.name);
        let mayfly = Gateway::start(&gateway, &data_dir)?;
        mayfly.deploy(&guest.name, &guest.wasm, &json!({}))?;
        let call = subject.call(&mayfly)?;
        let capacity = capacity(&call, options)?;
        progress(&format!("{}: {} answers a second at most", subject.name, number(capacity, 0)));
        capacities.push(json!({ "function": subject.name, "per_s": capacity }));
        let patient = options.factors.iter().map(|factor| (0, *factor));
        for (retries, factor) in patient.chain([IMPATIENT, (0, AFTERWARDS)]) {
            let offer = Offer { factor, per_s: capacity * factor, retries };
            rows.push(row(subject, &mayfly, &call, &offer, options)?);
        }
        complaints.extend(mayfly.complaints());
    }
    if let Some(plots) = &options.plots {
        let charts = subjects.iter().flat_map(|subject| {
            charts(subject.name, &rows).map(|(what, chart)| (subject.name, what, chart))
        });
        for (function, what, chart) in charts {
            fs::write(plots.join(format!("overload-{function}.{what}.svg")), chart.draw()?)
                .with_context(|| format!("writing to {}", plots.display()))?;
        }
    }
    let markdown = overload_table(&rows);
    let figures = json!({ "overload": rows, "capacity": capacities });
    Ok(Findings { markdown, figures, complaints })
}

/// A request, and the body of its correct answer.
struct Call {
    addr: SocketAddr,
    request: Vec<u8>,
    expected: Vec<u8>,
}

impl Subject {
    fn call(&self, mayfly: &Gateway) -> anyhow::Result<Call> {
        let path = format!("{}{}", path_of(self.guest), self.query);
        let answer = Client::connect(mayfly.data)?.get(&path)?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
        let request = get_request(mayfly.data, &path);
        Ok(Call { addr: mayfly.data, request, expected: answer.body })
    }
}

impl Call {
    fn plan(&self, load: Load, connections: usize, options: &OverloadOptions) -> Plan {
        Plan {
            addr: self.addr,
            request: self.request.clone(),
            expected: self.expected.clone(),
            load,
            connections,
            threads: thread::available_parallelism().map_or(1, NonZero::get),
            retries: 0,
            warm_up: Duration::from_secs(1),
            measure: Duration::from_secs(options.seconds),
        }
    }
}

/// Correct answers a second in a closed loop, with one connection for each slot of a function.
fn capacity(call: &Call, options: &OverloadOptions) -> anyhow::Result<f64> {
    let (observed, ..) = generator::run(call.plan(Load::Closed, 64, options), || ())?;
    let refused = observed.refused.count();
    ensure!(observed.failures() == 0, "{refused} refused, {:?}", observed.first_error);
    Ok(observed.answered as f64 / observed.elapsed.as_secs_f64())
}

fn row(
    subject: &Subject,
    mayfly: &Gateway,
    call: &Call,
    offer: &Offer,
    options: &OverloadOptions,
) -> anyhow::Result<Row> {
    let probe = Probe::start(mayfly.control);
    let plan = call.plan(Load::Open(offer.per_s), options.connections.into(), options);
    let observed = generator::run(Plan { retries: offer.retries, ..plan }, || ());
    let (control, control_errors) = probe.finish()?;
    let (observed, ..) = observed?;
    let Observed { latency, refused, .. } = &observed;
    let seconds = observed.elapsed.as_secs_f64();
    let ms = |histogram: &Histogram, share| histogram.quantile_us(share) / 1e3;
    let row = Row {
        function: subject.name,
        offer: offer.clone(),
        goodput_per_s: observed.answered as f64 / seconds,
        p50_ms: ms(latency, 0.5),
        p99_ms: ms(latency, 0.99),
        refused_per_s: refused.count() as f64 / seconds,
        refused_p50_ms: ms(refused, 0.5),
        refused_p99_ms: ms(refused, 0.99),
        errors: observed.errors,
        unanswered: observed.unanswered,
        rss_mb: mayfly.memory()?.rss_mb,
        control_p99_ms: ms(&control, 0.99),
        control_errors,
    };
    progress(&format!(
        "{}, {}: {} answered and {} refused a second",
        subject.name,
        offer.label(),
        number(row.goodput_per_s, 0),
        number(row.refused_per_s, 0)
    ));
    Ok(row)
}

/// Probes `/readyz` on the control plane until it is stopped.
struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Histogram, u64)>,
}

impl Probe {
    fn start(control: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut times, mut errors) = (Histogram::default(), 0);
            while !stopped.load(Relaxed) {
                let since = Instant::now();
                let answer = Client::connect(control).and_then(|mut client| client.get("/readyz"));
                match answer {
                    Ok(answer) if answer.status == 200 => times.record(since.elapsed()),
                    _ => errors += 1,
                }
                thread::sleep(PROBE_PAUSE);
            }
            (times, errors)
        });
        Self { stop, thread }
    }

    fn finish(self) -> anyhow::Result<(Histogram, u64)> {
        self.stop.store(true, Relaxed);
        self.thread.join().ok().context("the thread that probes the control plane panicked")
    }
}

fn overload_table(rows: &[Row]) -> String {
    let header = [
        "function",
        "offered",
        "offered/s",
        "answered/s",
        "p50 ms",
        "p99 ms",
        "refused/s",
        "p50 ms",
        "p99 ms",
        "errors",
        "unanswered",
        "RSS MB",
        "control plane p99 ms",
        "errors",
    ];
    let cells = rows.iter().map(|row| {
        vec![
            row.function.to_owned(),
            row.offer.label(),
            number(row.offer.per_s, 0),
            number(row.goodput_per_s, 0),
            number(row.p50_ms, 2),
            number(row.p99_ms, 2),
            number(row.refused_per_s, 0),
            number(row.refused_p50_ms, 2),
            number(row.refused_p99_ms, 2),
            row.errors.to_string(),
            row.unanswered.to_string(),
            number(row.rss_mb, 0),
            number(row.control_p99_ms, 2),
            row.control_errors.to_string(),
        ]
    });
    table(&header, &cells.collect::<Vec<_>>())
}

/// Rates and latencies of answers and refusals, by the offered load.
fn charts(function: &str, rows: &[Row]) -> [(&'static str, Chart); 2] {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.function == function).collect();
    let panel = |title: &str, figures: fn(&Row) -> (Option<f64>, Vec<f64>)| {
        let line = |row: &&Row| {
            let (bar, dots) = figures(row);
            let label = format!("{} ({}/s)", row.offer.label(), number(row.offer.per_s, 0));
            Line { label, colour: Colour::Gateway, range: bar.map(|bar| [bar; 3]), dots }
        };
        Panel { title: title.to_owned(), lines: rows.iter().map(line).collect() }
    };
    let goodput = Chart {
        title: format!("A function that {function}: answers a second, by the load offered"),
        scale: Scale::FromZero,
        panels: vec![
            panel("answered", |row| (Some(row.goodput_per_s), vec![])),
            panel("refused with retry-after", |row| (Some(row.refused_per_s), vec![])),
        ],
    };
    let latency = Chart {
        title: format!("A function that {function}: p50 and p99, by the load offered"),
        scale: Scale::Logarithmic,
        panels: vec![
            panel("answered", |row| (None, vec![row.p50_ms * 1e3, row.p99_ms * 1e3])),
            panel("refused", |row| {
                (None, vec![row.refused_p50_ms * 1e3, row.refused_p99_ms * 1e3])
            }),
        ],
    };
    [("goodput", goodput), ("latency", latency)]
}
