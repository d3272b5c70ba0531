//! From a request to the first byte of its answer when the function has left memory.
//!
//! Native code is on disk and in the page cache. The same request is timed twice more while the
//! function is loaded: after a pause, as the cold one was, and right after another. A machine that
//! has rested takes a while to wake up, whatever it is asked: what being cold costs is the
//! difference to the request after a pause.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client},
    gateway::{Gateway, GatewayOptions, path_of},
    guest::Guest,
    report::{Findings, Quantiles, progress, table},
};

/// How long a function may take to become cold once its idle time is over.
const PATIENCE: Duration = Duration::from_secs(30);
/// After the gateway says that nothing is resident: code is unmapped a moment later.
const SETTLE: Duration = Duration::from_millis(10);

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct ColdOptions {
    /// Guests to deploy
    #[arg(long, value_delimiter = ',', default_value = "c-hello,hello")]
    pub guests: Vec<String>,
    /// Guests to deploy with a snapshot, as NAME-snapshot, beside the others
    #[arg(long, value_delimiter = ',')]
    pub snapshots: Vec<String>,
    /// Cold starts of each guest, on each kind of connection
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// The functions' idle time
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub idle_ms: u64,
}

/// How a request gets to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Connection {
    /// On a connection made for it; making it is part of the time.
    Fresh,
    /// On one that was used before.
    Kept,
}

/// Times of one guest on one kind of connection.
#[derive(Debug, Serialize)]
struct Row {
    guest: String,
    connection: Connection,
    cold: Quantiles,
    /// Of the cold requests, without the way to the gateway and back: what it says itself.
    cold_inside: Quantiles,
    rested: Quantiles,
    loaded: Quantiles,
}

/// What was observed on one kind of connection.
#[derive(Debug, Default)]
struct Times {
    cold: Vec<Duration>,
    cold_inside: Vec<Duration>,
    /// Loaded, after a pause.
    rested: Vec<Duration>,
    /// Loaded, right after another request.
    loaded: Vec<Duration>,
}

/// One guest on its way through the measurement.
struct Series {
    guest: Guest,
    kept: Client,
    fresh: Times,
    reused: Times,
}

/// Measures.
///
/// # Errors
/// When a function does not become cold or does not answer.
pub fn run(gateway: &GatewayOptions, options: &ColdOptions) -> anyhow::Result<Findings> {
    let mut guests: Vec<(Guest, Value)> = Vec::new();
    for guest in gateway.guests(&options.guests)? {
        guests.push((guest, json!({ "idle_ms": options.idle_ms })));
    }
    for mut guest in gateway.guests(&options.snapshots)? {
        guest.name.push_str("-snapshot");
        guests.push((guest, json!({ "idle_ms": options.idle_ms, "snapshot": true })));
    }
    let dir = gateway.temporary()?;
    let mut mayfly = Gateway::start(gateway, &dir.path().join("data"))?;
    for (guest, settings) in &guests {
        mayfly.deploy(&guest.name, &guest.wasm, settings)?;
    }
    let mut series = Vec::new();
    for (guest, _) in guests {
        // Not before all are deployed: a connection that says nothing for long is closed.
        let kept = Client::connect(mayfly.data)?;
        series.push(Series { guest, kept, fresh: Times::default(), reused: Times::default() });
    }
    // Half of the idle time: the function stays loaded, the machine rests.
    let pause = Duration::from_millis(options.idle_ms) / 2;
    for turn in 1..=options.count {
        for one in &mut series {
            one.step(&mut mayfly, pause)?;
        }
        if turn % 10 == 0 {
            progress(&format!("{turn} of {} cold starts", options.count));
        }
    }
    let mut complaints = mayfly.complaints();
    for one in &series {
        complaints.extend(count_again(&mayfly, &one.guest.name, 2 * options.count)?);
    }
    let rows: Vec<Row> = series.iter().flat_map(Series::rows).collect();
    let figures = json!({ "cold": rows });
    Ok(Findings { markdown: cold_table(&rows), figures, complaints })
}

impl Series {
    /// Two cold starts, each followed by two requests that find the function loaded.
    fn step(&mut self, mayfly: &mut Gateway, pause: Duration) -> anyhow::Result<()> {
        let path = path_of(&self.guest.name);
        let addr = mayfly.data;
        let fresh = || fresh_request(addr, &path);
        self.fresh.round(mayfly, &self.guest.name, pause, fresh)?;
        let kept = &mut self.kept;
        let reused = || {
            let answer = kept.get(&path)?;
            ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
            Ok((answer.first_byte, inside(&answer)?))
        };
        self.reused.round(mayfly, &self.guest.name, pause, reused)
    }

    fn rows(&self) -> [Row; 2] {
        [(Connection::Fresh, &self.fresh), (Connection::Kept, &self.reused)].map(
            |(connection, times)| Row {
                guest: self.guest.name.clone(),
                connection,
                cold: Quantiles::of(&times.cold),
                cold_inside: Quantiles::of(&times.cold_inside),
                rested: Quantiles::of(&times.rested),
                loaded: Quantiles::of(&times.loaded),
            },
        )
    }
}

impl Times {
    /// One request of each sort. `request` says how long it took, and how much of that inside.
    fn round(
        &mut self,
        mayfly: &mut Gateway,
        name: &str,
        pause: Duration,
        mut request: impl FnMut() -> anyhow::Result<(Duration, Duration)>,
    ) -> anyhow::Result<()> {
        become_cold(mayfly, name)?;
        let (took, inside) = request()?;
        self.cold.push(took);
        self.cold_inside.push(inside);
        thread::sleep(pause);
        self.rested.push(request()?.0);
        self.loaded.push(request()?.0);
        Ok(())
    }
}

/// Waits until the API says that the function is cold, and its code is no longer mapped.
fn become_cold(mayfly: &mut Gateway, name: &str) -> anyhow::Result<()> {
    let since = Instant::now();
    while mayfly.state(name)? != "cold" {
        ensure!(since.elapsed() < PATIENCE, "{name} is not cold after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
    mayfly.wait_until_cold(PATIENCE)?;
    thread::sleep(SETTLE);
    Ok(())
}

/// On a connection made for it, which is closed when the time is taken.
fn fresh_request(addr: SocketAddr, path: &str) -> anyhow::Result<(Duration, Duration)> {
    let started = Instant::now();
    let mut client = Client::connect(addr)?;
    let connected = started.elapsed();
    let answer = client.get(path)?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
    Ok((connected + answer.first_byte, inside(&answer)?))
}

fn inside(answer: &Answer) -> anyhow::Result<Duration> {
    answer.inside().context("the answer does not say how long it took (see `server.timing`)")
}

/// The gateway counts cold starts as well; a difference means that something else was measured.
fn count_again(mayfly: &Gateway, name: &str, expected: u32) -> anyhow::Result<Option<String>> {
    let series = format!("mayfly_requests_total{{function=\"{name}\",");
    let counted = mayfly.metric(&series, "start=\"cold\"")?;
    let differs = (counted - f64::from(expected)).abs() > 0.5;
    Ok(differs.then(|| format!("{name}: {expected} cold starts here, {counted} in the metrics")))
}

fn cold_table(rows: &[Row]) -> String {
    let header = [
        "guest",
        "connection",
        "count",
        "cold p50 ms",
        "p99 ms",
        "min..max",
        "in the gateway p50 ms",
        "loaded after a pause p50 ms",
        "loaded p50 ms",
        "p99 ms",
        "min..max",
    ];
    let cells = rows.iter().map(|row| {
        let connection = match row.connection {
            Connection::Fresh => "fresh",
            Connection::Kept => "kept open",
        };
        let start = [row.guest.clone(), connection.into(), row.cold.count.to_string()];
        let medians = [&row.cold_inside, &row.rested].map(|times| times.cells()[0].clone());
        let all = start.into_iter().chain(row.cold.cells()).chain(medians);
        all.chain(row.loaded.cells()).collect()
    });
    table(&header, &cells.collect::<Vec<_>>())
}
