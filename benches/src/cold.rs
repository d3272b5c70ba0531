//! From a request to the first byte of its answer when the function has left memory.
//!
//! Native code is on disk and in the page cache. The same request is timed right afterwards, when
//! the function is loaded: the difference is what being cold costs.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    client::Client,
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
    loaded: Quantiles,
}

/// One guest on its way through the measurement.
struct Series {
    guest: Guest,
    kept: Client,
    /// Cold and loaded times on fresh connections, then those on the kept one.
    fresh: (Vec<Duration>, Vec<Duration>),
    reused: (Vec<Duration>, Vec<Duration>),
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
    let mut series = Vec::new();
    for (guest, settings) in guests {
        mayfly.deploy(&guest.name, &guest.wasm, &settings)?;
        let kept = Client::connect(mayfly.data)?;
        series.push(Series { guest, kept, fresh: Default::default(), reused: Default::default() });
    }
    for turn in 1..=options.count {
        for one in &mut series {
            one.step(&mut mayfly)?;
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
    /// Two cold starts, each followed by a request that finds the function loaded.
    fn step(&mut self, mayfly: &mut Gateway) -> anyhow::Result<()> {
        let path = path_of(&self.guest.name);
        for loaded in [false, true] {
            if !loaded {
                become_cold(mayfly, &self.guest.name)?;
            }
            let (_client, took) = fresh_request(mayfly, &path)?;
            if loaded { self.fresh.1.push(took) } else { self.fresh.0.push(took) }
        }
        for loaded in [false, true] {
            if !loaded {
                become_cold(mayfly, &self.guest.name)?;
            }
            let answer = self.kept.get(&path)?;
            ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
            let took = answer.first_byte;
            if loaded { self.reused.1.push(took) } else { self.reused.0.push(took) }
        }
        Ok(())
    }

    fn rows(&self) -> [Row; 2] {
        [(Connection::Fresh, &self.fresh), (Connection::Kept, &self.reused)].map(
            |(connection, (cold, loaded))| Row {
                guest: self.guest.name.clone(),
                connection,
                cold: Quantiles::of(cold),
                loaded: Quantiles::of(loaded),
            },
        )
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

/// The connection is given back too, so that closing it is not part of the time.
fn fresh_request(mayfly: &Gateway, path: &str) -> anyhow::Result<(Client, Duration)> {
    let started = Instant::now();
    let mut client = Client::connect(mayfly.data)?;
    let connected = started.elapsed();
    let answer = client.get(path)?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
    Ok((client, connected + answer.first_byte))
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
        start.into_iter().chain(row.cold.cells()).chain(row.loaded.cells()).collect()
    });
    table(&header, &cells.collect::<Vec<_>>())
}
