//! What clients that wait feel of queued calls: the latency of a short function alone and while
//! thousands of queued calls drain, in turn.
//!
//! The queued calls fail for good, so that one request makes all of them due again for each round.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde::Serialize;
use serde_json::json;

use crate::{
    client::{Client, get_request},
    gateway::{Gateway, GatewayOptions, path_of},
    generator::{self, Load, Plan},
    report::{Findings, Spread, number, progress, table},
};

/// The function whose calls are queued: it answers with the status that it is asked for.
const QUEUED: &str = "t-answers";
/// How long enqueuing, and draining what is left, may take.
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(20);

/// Options of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct DrainOptions {
    /// The guest that is called by clients that wait
    #[arg(long, default_value = "c-hello")]
    pub guest: String,
    /// Calls that wait when a round begins
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub queued: u32,
    /// Requests a second of the clients that wait
    #[arg(long, default_value_t = 500.0)]
    pub rate: f64,
    /// Connections of the clients that wait
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub connections: u16,
    /// Rounds; each measures alone and beside the drain
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Seconds that each half of a round takes at most
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
}

#[derive(Debug, Serialize)]
struct DrainFigures {
    p50_us: f64,
    p99_us: f64,
    answered: u64,
    failures: u64,
}

#[derive(Debug, Serialize)]
struct DrainRound {
    alone: DrainFigures,
    beside: DrainFigures,
    /// Calls that ended while the clients were measured.
    drained: f64,
    drained_per_s: f64,
}

/// Measures.
///
/// # Errors
/// When the gateway does not start or refuses a call.
pub fn run(gateway: &GatewayOptions, options: &DrainOptions) -> anyhow::Result<Findings> {
    let guests = gateway.guests(&[options.guest.clone(), QUEUED.to_owned()])?;
    let dir = gateway.temporary()?;
    let mut gateway = gateway.clone();
    gateway.settings.insert(0, "server.in_flight_per_address=10000".into());
    let mayfly = Gateway::start(&gateway, &dir.path().join("data"))?;
    mayfly.deploy(&options.guest, &guests[0].wasm, &json!({}))?;
    let settings = json!({ "queued": options.queued, "queued_attempts": 1 });
    mayfly.deploy(QUEUED, &guests[1].wasm, &settings)?;
    let since = Instant::now();
    enqueue(&mayfly, options.queued)?;
    let rate = f64::from(options.queued) / since.elapsed().as_secs_f64();
    progress(&format!("enqueued {} calls, {rate:.0} a second on 16 connections", options.queued));

    let mut rounds = Vec::new();
    let mut complaints = Vec::new();
    for round in 1..=options.rounds {
        until_drained(&mayfly)?;
        let alone = measure(&mayfly, options, &mut complaints)?;
        redrive(&mayfly)?;
        let (before, since) = (ended(&mayfly)?, Instant::now());
        let beside = measure(&mayfly, options, &mut complaints)?;
        let drained = ended(&mayfly)? - before;
        let drained_per_s = drained / since.elapsed().as_secs_f64();
        progress(&format!(
            "round {round}: p99 {:.0} µs alone, {:.0} µs beside {drained:.0} queued calls \
             ({drained_per_s:.0} a second)",
            alone.p99_us, beside.p99_us,
        ));
        rounds.push(DrainRound { alone, beside, drained, drained_per_s });
    }
    complaints.extend(mayfly.complaints());
    let figures = json!({ "drain": rounds, "enqueued_per_s": rate });
    Ok(Findings { markdown: drain_table(&rounds), figures, complaints })
}

/// Enqueues calls that will fail.
fn enqueue(mayfly: &Gateway, count: u32) -> anyhow::Result<()> {
    const CONNECTIONS: u32 = 16;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|own| {
                scope.spawn(move || -> anyhow::Result<()> {
                    let mut client = Client::connect(mayfly.data)?;
                    let path = format!("{}?status=404", path_of(QUEUED));
                    for _ in (own..count).step_by(CONNECTIONS as usize) {
                        let answer =
                            client.send("POST", &path, "prefer: respond-async\r\n", b"")?;
                        ensure!(answer.status == 202, "{} {}", answer.status, answer.text());
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread that enqueues panicked"))??;
        }
        Ok(())
    })
}

fn until_drained(mayfly: &Gateway) -> anyhow::Result<()> {
    let since = Instant::now();
    loop {
        let waiting = mayfly.metric("mayfly_queue_calls", "due")?
            + mayfly.metric("mayfly_queue_calls", "running")?;
        if waiting == 0.0 {
            return Ok(());
        }
        ensure!(since.elapsed() < PATIENCE, "{waiting} calls wait after {PATIENCE:?}");
        thread::sleep(POLL);
    }
}

/// Makes all dead calls due.
fn redrive(mayfly: &Gateway) -> anyhow::Result<()> {
    let mut control = Client::connect(mayfly.control)?;
    let authorization = mayfly.authorization()?;
    let answer = control.send("POST", "/v1/invocations/redrive", &authorization, b"")?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    Ok(())
}

/// Attempts that have ended.
fn ended(mayfly: &Gateway) -> anyhow::Result<f64> {
    mayfly.metric("mayfly_queue_attempts_total", "dead")
}

fn measure(
    mayfly: &Gateway,
    options: &DrainOptions,
    complaints: &mut Vec<String>,
) -> anyhow::Result<DrainFigures> {
    let expected = Client::connect(mayfly.data)?.get(&path_of(&options.guest))?.body;
    let plan = Plan {
        addr: mayfly.data,
        request: get_request(mayfly.data, &path_of(&options.guest)),
        expected,
        load: Load::Open(options.rate),
        connections: options.connections.into(),
        threads: 1,
        retries: 0,
        warm_up: Duration::from_millis(200),
        measure: Duration::from_secs(options.seconds),
    };
    let (observed, ..) = generator::run(plan, || ())?;
    let failures = observed.failures() + observed.unanswered;
    complaints.extend(observed.first_error.map(|error| format!("the short guest: {error}")));
    Ok(DrainFigures {
        p50_us: observed.latency.quantile_us(0.5),
        p99_us: observed.latency.quantile_us(0.99),
        answered: observed.answered,
        failures,
    })
}

fn drain_table(rounds: &[DrainRound]) -> String {
    let header = ["", "p50 µs", "p99 µs", "answered", "failures", "queued calls a second"];
    let row = |name: &str, side: fn(&DrainRound) -> &DrainFigures, rate: String| {
        let spread = |value: fn(&DrainFigures) -> f64| {
            Spread::of(rounds.iter().map(|round| value(side(round)))).cell(0)
        };
        let sum = |value: fn(&DrainFigures) -> u64| {
            number(rounds.iter().map(|round| value(side(round))).sum::<u64>() as f64, 0)
        };
        vec![
            name.to_owned(),
            spread(|figures| figures.p50_us),
            spread(|figures| figures.p99_us),
            sum(|figures| figures.answered),
            sum(|figures| figures.failures),
            rate,
        ]
    };
    let rate = Spread::of(rounds.iter().map(|round| round.drained_per_s)).cell(0);
    let rows = [
        row("alone", |round| &round.alone, String::new()),
        row("beside the drain", |round| &round.beside, rate),
    ];
    table(&header, &rows)
}
