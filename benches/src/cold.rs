//! Cold starts: the time from a request to the first byte of its answer when the function has left
//! memory.
//!
//! The native code is on disk and in the page cache. The same request is timed twice more while the
//! function is loaded: after a pause, like the cold request, and right after another request. An
//! idle machine takes a while to wake up, whatever the request: the cost of a cold start is
//! therefore the difference to the request after a pause.

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
    report::{Findings, Quantiles, Spread, number, progress, table},
};

/// How long a function may take to become cold once its idle time is over.
const PATIENCE: Duration = Duration::from_secs(30);
/// Wait after the gateway reports that no function is resident: it unmaps the code a moment later.
const SETTLE: Duration = Duration::from_millis(10);

/// Options of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct ColdOptions {
    /// Guests to deploy
    #[arg(long, value_delimiter = ',', default_value = "c-hello,hello")]
    pub guests: Vec<String>,
    /// Guests to deploy with a snapshot, as NAME-snapshot, in addition to the others
    #[arg(long, value_delimiter = ',')]
    pub snapshots: Vec<String>,
    /// Cold starts of each guest, on each kind of connection
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// The functions' idle time
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub idle_ms: u64,
}

/// The connection that a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Connection {
    /// A new connection. The time includes connecting.
    Fresh,
    /// A connection that was used before.
    Kept,
}

/// Times of one guest on one kind of connection.
#[derive(Debug, Serialize)]
struct Row {
    guest: String,
    connection: Connection,
    cold: Quantiles,
    /// Time of the cold requests in the gateway, as the gateway reports it: without the network.
    cold_inside: Quantiles,
    rested: Quantiles,
    loaded: Quantiles,
    /// Median of the differences between a cold request and the one after a pause that followed it:
    /// the cost of the cold start itself, in milliseconds.
    own_ms: Spread,
}

/// Times on one kind of connection.
#[derive(Debug, Default)]
struct Times {
    cold: Vec<Duration>,
    cold_inside: Vec<Duration>,
    /// The function is loaded, the request comes after a pause.
    rested: Vec<Duration>,
    /// The function is loaded, the request comes right after another.
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
        // Connect when all are deployed: the gateway closes connections that are idle for long.
        let kept = Client::connect(mayfly.data)?;
        series.push(Series { guest, kept, fresh: Times::default(), reused: Times::default() });
    }
    // Half of the idle time: the function stays loaded, and the machine becomes idle.
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
        complaints.extend(compare_with_metrics(&mayfly, &one.guest.name, 2 * options.count)?);
    }
    let rows: Vec<Row> = series.iter().flat_map(Series::rows).collect();
    let figures = json!({ "cold": rows });
    Ok(Findings { markdown: cold_table(&rows), figures, complaints })
}

impl Series {
    /// Two cold starts, each followed by two requests to the loaded function.
    fn step(&mut self, mayfly: &mut Gateway, pause: Duration) -> anyhow::Result<()> {
        let path = path_of(&self.guest.name);
        let addr = mayfly.data;
        let fresh = || request_on_new_connection(addr, &path);
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
                own_ms: times.own_ms(),
            },
        )
    }
}

impl Times {
    /// What a cold start adds to a request that finds the machine as idle.
    fn own_ms(&self) -> Spread {
        let pairs = self.cold.iter().zip(&self.rested);
        Spread::of(pairs.map(|(cold, rested)| (cold.as_secs_f64() - rested.as_secs_f64()) * 1e3))
    }

    /// One request of each sort. `request` returns its time, and the part spent in the gateway.
    fn round(
        &mut self,
        mayfly: &mut Gateway,
        name: &str,
        pause: Duration,
        mut request: impl FnMut() -> anyhow::Result<(Duration, Duration)>,
    ) -> anyhow::Result<()> {
        wait_for_cold(mayfly, name)?;
        let (took, inside) = request()?;
        self.cold.push(took);
        self.cold_inside.push(inside);
        thread::sleep(pause);
        self.rested.push(request()?.0);
        self.loaded.push(request()?.0);
        Ok(())
    }
}

/// Waits until the API reports the function as cold and its code is unmapped.
fn wait_for_cold(mayfly: &mut Gateway, name: &str) -> anyhow::Result<()> {
    let since = Instant::now();
    while mayfly.state(name)? != "cold" {
        ensure!(since.elapsed() < PATIENCE, "{name} is not cold after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
    mayfly.wait_until_cold(PATIENCE)?;
    thread::sleep(SETTLE);
    Ok(())
}

/// Sends a request on a new connection, which is closed after the measurement.
fn request_on_new_connection(addr: SocketAddr, path: &str) -> anyhow::Result<(Duration, Duration)> {
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

/// Compares the count with the gateway's own: a difference means that other starts were measured.
fn compare_with_metrics(
    mayfly: &Gateway,
    name: &str,
    expected: u32,
) -> anyhow::Result<Option<String>> {
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
        "the cold start's own p50 ms",
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
        let all = all.chain([number(row.own_ms.median, 3)]);
        all.chain(row.loaded.cells()).collect()
    });
    table(&header, &cells.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_waking_up_is_not_part_of_a_cold_start() {
        let millis = |times: &[u64]| times.iter().map(|ms| Duration::from_millis(*ms)).collect();
        let times =
            Times { cold: millis(&[9, 5, 7]), rested: millis(&[4, 4, 4]), ..Times::default() };
        assert!((times.own_ms().median - 3.0).abs() < 1e-9, "{:?}", times.own_ms());
    }
}
