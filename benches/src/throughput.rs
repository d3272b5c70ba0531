//! Guests beside a bare axum server: requests per second, latency, CPU time, memory.
//!
//! The measurement is interleaved, so that noise from other machines on the same host affects all
//! targets alike: each round measures each number of connections, and for each of those every
//! target in turn. Ratios compare figures of the same round.

use std::{
    net::SocketAddr,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::ensure;
use serde::Serialize;
use serde_json::json;

use crate::{
    client::{Client, get_request},
    gateway::{Gateway, GatewayOptions, path_of},
    generator::{self, Load, Observed, Plan},
    guest::Guest,
    process::{self, Memory, Server},
    report::{Findings, Spread, number, progress, table},
};

/// Options of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct ThroughputOptions {
    /// Guests to deploy
    #[arg(long, value_delimiter = ',', default_value = "c-hello,hello")]
    pub guests: Vec<String>,
    /// Numbers of connections
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256",
        value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub connections: Vec<u16>,
    /// Rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Milliseconds of load before each measurement
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub warm_up_ms: u64,
    /// Threads of the load generator [default: one per core]
    #[arg(long)]
    pub threads: Option<NonZero<usize>>,
    /// Another binary of the gateway, which deploys before the measured one starts on the same data
    /// directory: one that was built to count what it runs cannot compile, because its compile worker
    /// may write no file
    #[arg(long, value_name = "PATH")]
    pub deploy_with: Option<PathBuf>,
    /// Another binary of the gateway, to measure in the same rounds; may be repeated
    #[arg(long, value_name = "PATH")]
    pub against: Vec<PathBuf>,
}

/// The name of the yardstick.
const BARE: &str = "bare axum";

/// A server, and a request to it.
struct Target {
    name: String,
    addr: SocketAddr,
    path: String,
    pid: u32,
    /// The body of its answers.
    expected: Vec<u8>,
}

/// A gateway, and what its targets' names end with.
struct Started {
    label: String,
    gateway: Gateway,
}

/// One target at one number of connections in one round.
#[derive(Clone, Debug, Serialize)]
struct Point {
    round: u32,
    connections: usize,
    target: String,
    requests_per_s: f64,
    cpu_s_per_1000: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    errors: u64,
    stalled: u64,
}

/// All rounds of one target at one number of connections.
#[derive(Clone, Debug, Serialize)]
struct Row {
    connections: usize,
    target: String,
    requests_per_s: Spread,
    requests_ratio: Spread,
    cpu_s_per_1000: Spread,
    cpu_ratio: Spread,
    p50_us: Spread,
    p99_us: Spread,
    p999_us: Spread,
    errors: u64,
    stalled: u64,
}

/// A server's memory before and after all rounds.
#[derive(Clone, Debug, Serialize)]
struct Footprint {
    server: String,
    idle: Memory,
    after_load: Memory,
}

/// Measures.
///
/// # Errors
/// When a server does not start, or a program or a guest is not built.
pub fn run(gateway: &GatewayOptions, options: &ThroughputOptions) -> anyhow::Result<Findings> {
    let guests = gateway.guests(&options.guests)?;
    let dir = gateway.temporary()?;
    let mut gateway = gateway.clone();
    // All connections come from one address; the default limit would refuse some of them.
    gateway.settings.insert(0, "server.connections_per_address=10000".into());
    gateway.settings.insert(0, "server.in_flight_per_address=10000".into());
    let gateways = start_all(&gateway, options, dir.path(), &guests)?;
    let bare_addr = process::free_address()?;
    let arguments = ["--listen".to_owned(), bare_addr.to_string()];
    let program = process::sibling("bare-axum")?;
    let mut bare = Server::start(&program, &arguments, dir.path().join("bare-axum.log"))?;
    bare.wait_for(bare_addr)?;

    let mut targets = vec![target(BARE.into(), bare_addr, "/".into(), bare.pid())?];
    for guest in &guests {
        for Started { label, gateway } in &gateways {
            let (name, path) = (format!("{}{label}", guest.name), path_of(&guest.name));
            targets.push(target(name, gateway.data, path, gateway.pid())?);
        }
    }
    let memory = || {
        let gateways = gateways.iter().map(|started| started.gateway.memory());
        [Memory::of(bare.pid())].into_iter().chain(gateways).collect::<anyhow::Result<Vec<_>>>()
    };
    let idle = memory()?;
    let mut complaints = Vec::new();
    let points = measure(&targets, options, &mut complaints)?;
    let after = memory()?;

    let mut names = vec![BARE.to_owned()];
    for Started { label, gateway } in gateways {
        names.push(format!("mayfly{label} with {}", options.guests.join(", ")));
        complaints.extend(gateway.complaints());
        gateway.stop()?;
    }
    let footprints = names.into_iter().zip(idle).zip(after);
    let footprints: Vec<_> = footprints
        .map(|((server, idle), after_load)| Footprint { server, idle, after_load })
        .collect();
    let rows = rows(&points, &targets, options);
    let markdown = format!("{}\n{}", throughput_table(&rows), memory_table(&footprints));
    let figures = json!({ "throughput": rows, "points": points, "memory": footprints });
    Ok(Findings { markdown, figures, complaints })
}

/// Starts the gateway, and those to measure beside it.
fn start_all(
    gateway: &GatewayOptions,
    options: &ThroughputOptions,
    dir: &Path,
    guests: &[Guest],
) -> anyhow::Result<Vec<Started>> {
    let own = start(gateway, options, &dir.join("data"), guests)?;
    let mut gateways = vec![Started { label: String::new(), gateway: own }];
    for (number, binary) in options.against.iter().enumerate() {
        let other = GatewayOptions { mayfly: Some(binary.clone()), ..gateway.clone() };
        let other = start(&other, options, &dir.join(format!("against-{number}")), guests)?;
        gateways.push(Started { label: format!(" by {}", binary.display()), gateway: other });
    }
    Ok(gateways)
}

/// Starts a gateway, with the guests deployed.
fn start(
    gateway: &GatewayOptions,
    options: &ThroughputOptions,
    data_dir: &Path,
    guests: &[Guest],
) -> anyhow::Result<Gateway> {
    let deploying = options.deploy_with.clone().or_else(|| gateway.mayfly.clone());
    let deploying = GatewayOptions { mayfly: deploying, ..gateway.clone() };
    let mayfly = Gateway::start(&deploying, data_dir)?;
    for guest in guests {
        mayfly.deploy(&guest.name, &guest.wasm, &json!({}))?;
    }
    if options.deploy_with.is_none() {
        return Ok(mayfly);
    }
    mayfly.stop()?;
    Gateway::start(gateway, data_dir)
}

/// All answers in the measurement must be equal to the first answer.
fn target(name: String, addr: SocketAddr, path: String, pid: u32) -> anyhow::Result<Target> {
    let answer = Client::connect(addr)?.get(&path)?;
    ensure!(answer.status == 200, "{name}: {} {}", answer.status, answer.text());
    Ok(Target { name, addr, path, pid, expected: answer.body })
}

fn measure(
    targets: &[Target],
    options: &ThroughputOptions,
    complaints: &mut Vec<String>,
) -> anyhow::Result<Vec<Point>> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let mut points = Vec::new();
    for round in 1..=options.rounds {
        for connections in options.connections.iter().map(|count| usize::from(*count)) {
            for target in targets {
                let plan = Plan {
                    addr: target.addr,
                    request: get_request(target.addr, &target.path),
                    expected: target.expected.clone(),
                    load: Load::Closed,
                    connections,
                    threads: options.threads.map_or(cores, NonZero::get),
                    retries: 0,
                    warm_up: Duration::from_millis(options.warm_up_ms),
                    measure: Duration::from_secs(options.seconds),
                };
                let cpu = || process::cpu_seconds(target.pid);
                let (observed, before, after) = generator::run(plan, cpu)?;
                let point = point(round, connections, target, &observed, after? - before?);
                progress(&format!(
                    "round {round}, {connections} connections, {}: {} req/s, {} errors",
                    target.name,
                    number(point.requests_per_s, 0),
                    point.errors,
                ));
                let first_error = observed
                    .first_error
                    .map(|error| format!("{} at {connections} connections: {error}", target.name));
                complaints.extend(first_error);
                points.push(point);
            }
        }
    }
    Ok(points)
}

fn point(
    round: u32,
    connections: usize,
    target: &Target,
    observed: &Observed,
    cpu_seconds: f64,
) -> Point {
    let requests = observed.latency.count() as f64;
    Point {
        round,
        connections,
        target: target.name.clone(),
        requests_per_s: requests / observed.elapsed.as_secs_f64(),
        cpu_s_per_1000: cpu_seconds * 1_000.0 / requests.max(1.0),
        p50_us: observed.latency.quantile_us(0.5),
        p99_us: observed.latency.quantile_us(0.99),
        p999_us: observed.latency.quantile_us(0.999),
        errors: observed.failures(),
        stalled: observed.unanswered,
    }
}

fn rows(points: &[Point], targets: &[Target], options: &ThroughputOptions) -> Vec<Row> {
    let of = |target: &str, connections: u16| -> Vec<&Point> {
        let wanted = |point: &&Point| {
            point.target == target && point.connections == usize::from(connections)
        };
        points.iter().filter(wanted).collect()
    };
    let mut rows = Vec::new();
    for connections in &options.connections {
        let bare = of(BARE, *connections);
        for target in targets {
            let rounds = of(&target.name, *connections);
            rows.push(row(&rounds, &bare));
        }
    }
    rows
}

/// `rounds` and `bare` are in the order of rounds.
fn row(rounds: &[&Point], bare: &[&Point]) -> Row {
    let spread = |figure: fn(&Point) -> f64| Spread::of(rounds.iter().map(|point| figure(point)));
    let ratio = |figure: fn(&Point) -> f64| {
        let pairs = rounds.iter().zip(bare);
        Spread::of(pairs.map(|(point, bare)| figure(point) / figure(bare)))
    };
    Row {
        connections: rounds[0].connections,
        target: rounds[0].target.clone(),
        requests_per_s: spread(|point| point.requests_per_s),
        requests_ratio: ratio(|point| point.requests_per_s),
        cpu_s_per_1000: spread(|point| point.cpu_s_per_1000),
        cpu_ratio: ratio(|point| point.cpu_s_per_1000),
        p50_us: spread(|point| point.p50_us),
        p99_us: spread(|point| point.p99_us),
        p999_us: spread(|point| point.p999_us),
        errors: rounds.iter().map(|point| point.errors).sum(),
        stalled: rounds.iter().map(|point| point.stalled).sum(),
    }
}

fn throughput_table(rows: &[Row]) -> String {
    let header = [
        "connections",
        "target",
        "req/s",
        "÷ bare axum",
        "CPU s per 1,000 req",
        "× bare axum",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "errors",
        "stalled",
    ];
    let cells = rows.iter().map(|row| {
        vec![
            row.connections.to_string(),
            row.target.clone(),
            row.requests_per_s.cell(0),
            row.requests_ratio.cell(3),
            row.cpu_s_per_1000.cell(4),
            row.cpu_ratio.cell(2),
            row.p50_us.cell(0),
            row.p99_us.cell(0),
            row.p999_us.cell(0),
            row.errors.to_string(),
            row.stalled.to_string(),
        ]
    });
    table(&header, &cells.collect::<Vec<_>>())
}

fn memory_table(footprints: &[Footprint]) -> String {
    let header = ["server", "RSS idle MB", "PSS idle MB", "RSS after MB", "PSS after MB"];
    let cells = footprints.iter().map(|Footprint { server, idle, after_load }| {
        let sizes = [idle.rss_mb, idle.pss_mb, after_load.rss_mb, after_load.pss_mb];
        std::iter::once(server.clone()).chain(sizes.map(|size| number(size, 1))).collect()
    });
    table(&header, &cells.collect::<Vec<_>>())
}
