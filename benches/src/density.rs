//! Many functions on one gateway: memory with all of them resident and with none, calls under a
//! budget that holds a part of them, and the time from the start of the gateway to the first
//! answer of a function.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use crate::{
    budget::{self, Budget, BudgetOptions},
    client::Client,
    gateway::{Gateway, GatewayOptions},
    guest::Guest,
    process::Memory,
    report::{Findings, Quantiles, Spread, number, progress, table},
};

/// How long functions may take to leave memory once their idle time is over.
const LEAVE: Duration = Duration::from_secs(60);

/// Options of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct DensityOptions {
    /// The guest to deploy
    #[arg(long, default_value = "c-hello")]
    pub guest: String,
    /// Functions to deploy
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub functions: u32,
    /// Idle time of the functions; must exceed the time of all deploys, or some leave too early
    #[arg(long, default_value_t = 120_000,
        value_parser = clap::value_parser!(u64).range(1_000..=3_600_000))]
    pub idle_ms: u64,
    /// How often to start the gateway with all functions deployed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub starts: u32,
    /// Repeat the measurement with one artifact for all functions
    #[arg(long)]
    pub one_artifact_too: bool,
    /// Concurrent uploads
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub uploads: u16,
    /// Calls under a budget
    #[command(flatten)]
    pub budget: BudgetOptions,
}

/// How many artifacts the functions have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Artifacts {
    /// One for each function.
    Distinct,
    /// One for all functions.
    One,
}

/// One way of filling a gateway.
#[derive(Debug, Serialize)]
struct Case {
    artifacts: Artifacts,
    functions: u32,
    deploy_seconds: f64,
    /// Memory of the gateway before the first deploy.
    empty: Memory,
    /// Functions with code in memory right after the last deploy.
    resident: u32,
    deployed: Memory,
    cold: Memory,
    budget: Option<Budget>,
    start: Quantiles,
    /// Resident set after such a start and one answer, in megabytes.
    started_rss_mb: Spread,
    started_pss_mb: Spread,
    complaints: Vec<String>,
}

/// Measures.
///
/// # Errors
/// When the gateway refuses a deploy, does not start again, or does not unload functions.
pub fn run(gateway: &GatewayOptions, options: &DensityOptions) -> anyhow::Result<Findings> {
    let guest = gateway.guests(std::slice::from_ref(&options.guest))?.remove(0);
    let mut gateway = gateway.clone();
    // The default quota would refuse most uploads.
    gateway.settings.insert(0, "quotas.compiles_per_minute=1000000".into());
    gateway.settings.insert(0, "quotas.changes_per_minute=1000000".into());
    let mut cases = vec![case(&gateway, options, &guest, Artifacts::Distinct)?];
    if options.one_artifact_too {
        cases.push(case(&gateway, options, &guest, Artifacts::One)?);
    }
    let complaints = cases.iter().flat_map(|case| case.complaints.clone()).collect();
    let mut markdown = format!("Guest: {}\n\n{}", guest.name, density_table(&cases));
    for budget in cases.iter().filter_map(|case| case.budget.as_ref()) {
        markdown = format!("{markdown}\n{}", budget.markdown());
    }
    Ok(Findings { markdown, figures: json!({ "density": cases }), complaints })
}

fn case(
    gateway: &GatewayOptions,
    options: &DensityOptions,
    guest: &Guest,
    artifacts: Artifacts,
) -> anyhow::Result<Case> {
    let dir = gateway.temporary()?;
    let data_dir = dir.path().join("data");
    let mut mayfly = Gateway::start(gateway, &data_dir)?;
    let empty = mayfly.memory()?;
    let started = Instant::now();
    fill(&mayfly, options, guest, artifacts)?;
    let deploy_seconds = started.elapsed().as_secs_f64();
    let resident = mayfly.metric("mayfly_resident_functions ", "")?;
    let code_bytes = mayfly.metric("mayfly_resident_code_bytes ", "")? / resident.max(1.0);
    let deployed = mayfly.memory()?;
    progress(&format!("waiting {} ms until all functions are cold", options.idle_ms));
    mayfly.wait_until_cold(Duration::from_millis(options.idle_ms) + LEAVE)?;
    let cold = mayfly.memory()?;
    let mut complaints = mayfly.complaints();
    mayfly.stop()?;
    let budget = if options.budget.calls > 0 {
        let functions = options.functions;
        let (budget, more) =
            budget::run(gateway, &options.budget, &data_dir, functions, code_bytes, name)?;
        complaints = more;
        Some(budget)
    } else {
        None
    };

    let mut times = Vec::new();
    let mut memories = Vec::new();
    for index in 0..options.starts {
        // A different function each time, so that no cache favours one of them.
        let function = name(index * options.functions / options.starts);
        let (mayfly, took) = Gateway::start_until(gateway, &data_dir, &function)?;
        times.push(took);
        memories.push(mayfly.memory()?);
        // The log file is appended to at each start, so it already has the lines of earlier starts.
        complaints = mayfly.complaints();
        mayfly.stop()?;
    }
    Ok(Case {
        artifacts,
        functions: options.functions,
        deploy_seconds,
        empty,
        resident: resident as u32,
        deployed,
        cold,
        budget,
        start: Quantiles::of(&times),
        started_rss_mb: Spread::of(memories.iter().map(|memory| memory.rss_mb)),
        started_pss_mb: Spread::of(memories.iter().map(|memory| memory.pss_mb)),
        complaints,
    })
}

fn fill(
    mayfly: &Gateway,
    options: &DensityOptions,
    guest: &Guest,
    artifacts: Artifacts,
) -> anyhow::Result<()> {
    let authorization = mayfly.authorization()?;
    let settings = json!({ "idle_ms": options.idle_ms });
    let next = AtomicU32::new(0);
    let upload = || -> anyhow::Result<()> {
        let mut control = Client::connect(mayfly.control)?;
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number >= options.functions {
                return Ok(());
            }
            let stamp = match artifacts {
                Artifacts::Distinct => number,
                Artifacts::One => 0,
            };
            let wasm = guest.stamped(stamp.into());
            Gateway::put(&mut control, &authorization, &name(number), &wasm, &settings)?;
            if (number + 1).is_multiple_of(500) {
                progress(&format!("{} of {} functions", number + 1, options.functions));
            }
        }
    };
    thread::scope(|scope| {
        let uploads: Vec<_> = (0..options.uploads).map(|_| scope.spawn(upload)).collect();
        for upload in uploads {
            upload.join().ok().context("a thread that uploads panicked")??;
        }
        Ok(())
    })
}

fn name(number: u32) -> String {
    format!("f-{number}")
}

fn density_table(cases: &[Case]) -> String {
    let header = ["artifacts", "functions", "moment", "RSS MB", "PSS MB", "mappings", "time"];
    let rows = cases.iter().flat_map(|case| {
        let artifacts = match case.artifacts {
            Artifacts::Distinct => "distinct",
            Artifacts::One => "one",
        };
        let row = |functions: u32, moment: String, memory: &Memory, time: String| {
            let sizes = [memory.rss_mb, memory.pss_mb].map(|size| number(size, 1));
            let [rss, pss] = sizes;
            let functions = number(functions.into(), 0);
            vec![artifacts.into(), functions, moment, rss, pss, memory.mappings.to_string(), time]
        };
        let all = case.functions;
        let deployed = format!("all deployed, {} resident", number(case.resident.into(), 0));
        let rate = f64::from(case.functions) / case.deploy_seconds;
        let deploying = format!("{:.1} s to deploy, {rate:.0} a second", case.deploy_seconds);
        let [p50, p99, _] = case.start.cells();
        vec![
            row(0, "started, empty".into(), &case.empty, String::new()),
            row(all, deployed, &case.deployed, deploying),
            row(all, "all cold".into(), &case.cold, String::new()),
            vec![
                artifacts.into(),
                number(all.into(), 0),
                format!("started again ({}x), one answer", case.start.count),
                case.started_rss_mb.cell(1),
                case.started_pss_mb.cell(1),
                String::new(),
                format!("first answer p50 {p50} ms, p99 {p99} ms"),
            ],
        ]
    });
    table(&header, &rows.collect::<Vec<_>>())
}
