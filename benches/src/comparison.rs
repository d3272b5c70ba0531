//! One report on the gateway, a bare axum server and every peer on this machine.
//!
//! Each target is a server process of its own with one guest. All run for the whole time and are
//! under load in turn, so that noise from other machines on the same host affects all alike
//! (`schedule`). Ratios compare figures of the same round (`figures`).

mod figures;
mod peer;
mod plot;
mod rate;
mod schedule;
mod target;
mod text;

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use self::{
    figures::{Footprint, Row},
    peer::Missing,
    target::Target,
};
pub use self::{peer::CustomPeer, rate::Rate};
use crate::{
    gateway::GatewayOptions,
    machine::Machine,
    report::{Findings, progress},
};

/// Options of the comparison.
#[derive(Clone, Debug, clap::Args)]
pub struct ComparisonOptions {
    /// Guests; each is measured on all targets that can run it
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "c-hello,hello",
        default_value_if("quick", "true", "c-hello")
    )]
    guests: Vec<String>,
    /// Numbers of connections
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256",
        default_value_if("quick", "true", "1,64"),
        value_parser = clap::value_parser!(u16).range(1..=4_096))]
    connections: Vec<u16>,
    /// Rates of the open loops: shares of the target's rate in a closed loop, or `5000/s`;
    /// `none` for no open loops
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0.25,0.5,0.8",
        default_value_if("quick", "true", "0.5")
    )]
    rates: Vec<Rate>,
    /// Maximum rate of an open loop, in requests a second
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate_max: u32,
    /// Rounds
    #[arg(long, default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value = "2", default_value_if("quick", "true", "1"),
        value_parser = seconds)]
    seconds: Duration,
    /// Milliseconds of load before each measurement
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    warm_up_ms: u64,
    /// Threads of the load generator [default: one per core]
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// Take about two minutes: one guest, fewer measurements
    #[arg(long)]
    quick: bool,
    /// Add a gateway with this setting, or with several, separated by spaces; may be repeated
    #[arg(long = "gateway-set", value_name = "KEY=VALUE")]
    gateway_settings: Vec<String>,
    /// Peers to look for: `wasmtime`, `workerd`, `node`; `none` for none
    #[arg(long, value_delimiter = ',', default_value = "wasmtime,workerd,node")]
    peers: Vec<String>,
    /// Directory to search for peers before PATH; may be repeated [default: ~/.cache/mayfly/peers]
    #[arg(long, value_name = "DIR", env = "MAYFLY_PEER_DIR", value_delimiter = ':')]
    peer_dir: Vec<PathBuf>,
    /// Add a peer: a command for `sh` that serves on 127.0.0.1 and contains `{port}`, and
    /// `{guest}` if it runs guests; may be repeated
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    custom_peers: Vec<CustomPeer>,
    /// Directory to write the report to [default: docs/benchmarks of the source tree]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the summary into this file, between the marks `<!-- comparison:begin -->` and
    /// `<!-- comparison:end -->`; may be repeated
    #[arg(long, value_name = "FILE")]
    summary_in: Vec<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let within = (0.05..=600.0).contains(&seconds);
    within.then(|| Duration::from_secs_f64(seconds)).ok_or_else(|| "not in 0.05..=600".into())
}

impl ComparisonOptions {
    fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| source_tree().join("docs/benchmarks"))
    }

    fn rates(&self) -> impl Iterator<Item = Rate> {
        self.rates.iter().copied().filter(|rate| *rate != Rate::None)
    }
}

fn source_tree() -> &'static Path {
    let this_crate = Path::new(env!("CARGO_MANIFEST_DIR"));
    this_crate.parent().unwrap_or(this_crate)
}

/// The content of the report.
#[derive(Debug, Serialize)]
struct Report {
    date: String,
    machine: Machine,
    plan: String,
    targets: Vec<Footprint>,
    missing: Vec<Missing>,
    rows: Vec<Row>,
    points: Vec<figures::Point>,
    complaints: Vec<String>,
}

/// Measures and writes the report. Returns its summary.
///
/// # Errors
/// When the gateway or the bare axum server does not start, or the report cannot be written. A
/// peer that does not start is reported as missing.
pub fn run(
    gateway: &GatewayOptions,
    options: &ComparisonOptions,
    machine: &mut Machine,
) -> anyhow::Result<Findings> {
    let out = options.out();
    fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    let dir = gateway.temporary()?;
    let (targets, mut missing) = target::start_all(gateway, options, dir.path())?;
    let plan = schedule::plan(options, targets.len());
    progress(&plan);
    let mut complaints = Vec::new();
    let points = schedule::measure(&targets, options, &mut complaints)?;
    machine.finish();
    let footprints: Vec<Footprint> = targets.iter().map(Target::footprint).collect();
    complaints.extend(targets.iter().flat_map(Target::complaints));
    missing.sort_by(|one, other| one.name.cmp(&other.name));
    let report = Report {
        date: today(),
        machine: machine.clone(),
        plan,
        rows: figures::rows(&points, &footprints, &options.guests),
        targets: footprints,
        missing,
        points,
        complaints,
    };
    publish(&report, options, &out)?;
    let markdown = text::tables_in_short(&report, &options.guests);
    Ok(Findings { markdown, figures: json!(report), complaints: report.complaints })
}

fn publish(report: &Report, options: &ComparisonOptions, out: &Path) -> anyhow::Result<()> {
    let write = |name: &str, content: &str| {
        let file = out.join(name);
        fs::write(&file, content).with_context(|| format!("writing {}", file.display()))
    };
    write("comparison.json", &format!("{:#}\n", json!(report)))?;
    let mut plots = Vec::new();
    for guest in &options.guests {
        for (name, svg) in plot::all(report, guest)? {
            write(&name, &svg)?;
            plots.push(name);
        }
    }
    write("comparison.md", &text::report(report, &options.guests, &plots))?;
    let summary = text::summary(report, &options.guests);
    for file in &options.summary_in {
        let old =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let new = text::replace_summary(&old, &summary)
            .with_context(|| format!("{} lacks the marks for the summary", file.display()))?;
        fs::write(file, new).with_context(|| format!("writing {}", file.display()))?;
    }
    progress(&format!("the report is {}", out.join("comparison.md").display()));
    Ok(())
}

fn today() -> String {
    // The date in UTC: `2026-11-22`.
    jiff::Timestamp::now().strftime("%F").to_string()
}
