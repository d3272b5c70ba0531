//! Deploys: the time from the start of an upload to the first answer of the function.
//!
//! Each artifact has a digest of its own, so the gateway stores, compiles and tries each of them.
//! The upload and the call use separate connections, as with curl.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use serde_json::json;

use crate::{
    client::Client,
    gateway::{Gateway, GatewayOptions, path_of},
    guest::Guest,
    report::{Findings, Quantiles, number, progress, table},
};

/// Options of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct DeployOptions {
    /// Guests to deploy
    #[arg(long, value_delimiter = ',', default_value = "c-hello,hello")]
    pub guests: Vec<String>,
    /// Deploys of each guest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
}

/// Times of one guest.
#[derive(Debug, Serialize)]
struct Row {
    guest: String,
    wasm_bytes: usize,
    /// Time until the answer to the upload.
    put: Quantiles,
    /// Time until the first answer of the function.
    first_answer: Quantiles,
}

/// Measures.
///
/// # Errors
/// When the gateway refuses an upload or a function does not answer.
pub fn run(gateway: &GatewayOptions, options: &DeployOptions) -> anyhow::Result<Findings> {
    let guests = gateway.guests(&options.guests)?;
    let dir = gateway.temporary()?;
    let mayfly = Gateway::start(gateway, &dir.path().join("data"))?;
    let authorization = mayfly.authorization()?;
    let mut times = vec![(Vec::new(), Vec::new()); guests.len()];
    for turn in 1..=options.count {
        for (guest, (put, first_answer)) in guests.iter().zip(&mut times) {
            let (answered, called) = deploy(&mayfly, &authorization, guest, turn)?;
            put.push(answered);
            first_answer.push(called);
        }
        if turn % 10 == 0 {
            progress(&format!("{turn} of {} deploys", options.count));
        }
    }
    let rows: Vec<Row> = guests
        .iter()
        .zip(&times)
        .map(|(guest, (put, first_answer))| Row {
            guest: guest.name.clone(),
            wasm_bytes: guest.wasm.len(),
            put: Quantiles::of(put),
            first_answer: Quantiles::of(first_answer),
        })
        .collect();
    let complaints = mayfly.complaints();
    Ok(Findings { markdown: deploy_table(&rows), figures: json!({ "deploy": rows }), complaints })
}

/// The times from the start of the upload to its answer and to the function's first answer.
fn deploy(
    mayfly: &Gateway,
    authorization: &str,
    guest: &Guest,
    number: u32,
) -> anyhow::Result<(Duration, Duration)> {
    let wasm = guest.stamped(number.into());
    let name = format!("{}-{number}", guest.name);
    let started = Instant::now();
    let mut control = Client::connect(mayfly.control)?;
    Gateway::put(&mut control, authorization, &name, &wasm, &json!({}))?;
    let answered = started.elapsed();
    let answer = Client::connect(mayfly.data)?.get(&path_of(&name))?;
    let called = started.elapsed();
    ensure!(answer.status == 200, "{name}: {} {}", answer.status, answer.text());
    Ok((answered, called))
}

fn deploy_table(rows: &[Row]) -> String {
    let header = [
        "guest",
        "wasm bytes",
        "count",
        "first answer p50 ms",
        "p99 ms",
        "min..max",
        "of that PUT p50 ms",
        "p99 ms",
        "min..max",
    ];
    let cells = rows.iter().map(|row| {
        let bytes = number(row.wasm_bytes as f64, 0);
        let start = [row.guest.clone(), bytes, row.put.count.to_string()];
        start.into_iter().chain(row.first_answer.cells()).chain(row.put.cells()).collect()
    });
    table(&header, &cells.collect::<Vec<_>>())
}
