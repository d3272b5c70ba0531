//! The load harness. `cargo build --release -p gateway -p benches`, then
//!
//! ```text
//! cargo run --release -p benches --bin load -- report [--quick] [--help]
//! cargo run --release -p benches --bin load -- [--guests c-hello,hello] [--json out.json]
//! cargo run --release -p benches --bin load -- cold|deploy|density|fairness|overload [--help]
//! ```
//!
//! `report` compares with every peer that it finds and writes docs/benchmarks. Without a subcommand
//! it measures throughput, latency, CPU time and memory beside a bare axum server. It starts what
//! it measures, on the loopback interface and in a temporary directory, and stops by itself; the
//! report is Markdown on standard output.

use std::{path::PathBuf, process::ExitCode};

use benches::{
    cold::{self, ColdOptions},
    comparison::{self, ComparisonOptions},
    density::{self, DensityOptions},
    deploy::{self, DeployOptions},
    fairness::{self, FairnessOptions},
    gateway::GatewayOptions,
    machine::Machine,
    overload::{self, OverloadOptions},
    report,
    throughput::{self, ThroughputOptions},
};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures the gateway over HTTP, beside a bare axum server")]
#[command(args_conflicts_with_subcommands = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    #[command(flatten)]
    throughput: ThroughputOptions,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct Common {
    #[command(flatten)]
    gateway: GatewayOptions,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Scenario {
    /// The gateway, a bare axum server and every peer on this machine, as a report with plots
    Report(Box<Args<ComparisonOptions>>),
    /// Requests of functions that have left memory
    Cold(Args<ColdOptions>),
    /// Uploads, up to the first answer
    Deploy(Args<DeployOptions>),
    /// Memory and start-up with many functions
    Density(Args<DensityOptions>),
    /// A short function beside one that loops for ever, and beside uploads that are compiled
    Fairness(Args<FairnessOptions>),
    /// More requests than the gateway can serve
    Overload(Args<OverloadOptions>),
}

#[derive(clap::Args)]
struct Args<O: clap::Args> {
    #[command(flatten)]
    options: O,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::progress(&format!("load: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let common = match &cli.scenario {
        None => &cli.common,
        Some(Scenario::Report(args)) => &args.common,
        Some(Scenario::Cold(args)) => &args.common,
        Some(Scenario::Deploy(args)) => &args.common,
        Some(Scenario::Density(args)) => &args.common,
        Some(Scenario::Fairness(args)) => &args.common,
        Some(Scenario::Overload(args)) => &args.common,
    };
    let gateway = &common.gateway;
    let mut machine = Machine::observe(&gateway.binary()?, &gateway.scratch());
    let found = match &cli.scenario {
        None => throughput::run(gateway, &cli.throughput)?,
        Some(Scenario::Report(args)) => comparison::run(gateway, &args.options, &mut machine)?,
        Some(Scenario::Cold(args)) => cold::run(gateway, &args.options)?,
        Some(Scenario::Deploy(args)) => deploy::run(gateway, &args.options)?,
        Some(Scenario::Density(args)) => density::run(gateway, &args.options)?,
        Some(Scenario::Fairness(args)) => fairness::run(gateway, &args.options)?,
        Some(Scenario::Overload(args)) => overload::run(gateway, &args.options)?,
    };
    machine.finish();
    report::publish(&machine, &found, common.json.as_deref())
}
