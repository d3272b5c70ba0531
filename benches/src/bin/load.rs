//! The load harness. `cargo build --release -p gateway -p benches`, then
//!
//! ```text
//! cargo run --release -p benches --bin load -- report [--quick] [--help]
//! cargo run --release -p benches --bin load -- [--guests c-hello,hello] [--json out.json]
//! cargo run --release -p benches --bin load -- cold|deploy|density|drain|fairness|overload|profile [--help]
//! ```
//!
//! `report` compares the gateway with every peer that it finds and writes docs/benchmarks. Without
//! a subcommand the program measures throughput, latency, CPU time and memory beside a bare axum
//! server. It starts the servers itself, on the loopback interface and in a temporary directory,
//! and stops them at the end. It prints a report in Markdown to standard output.

use std::{path::PathBuf, process::ExitCode};

use benches::{
    cold::{self, ColdOptions},
    comparison::{self, ComparisonOptions},
    density::{self, DensityOptions},
    deploy::{self, DeployOptions},
    drain::{self, DrainOptions},
    fairness::{self, FairnessOptions},
    gateway::GatewayOptions,
    machine::Machine,
    overload::{self, OverloadOptions},
    profile::{self, ProfileOptions},
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
    /// File to write the figures to, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Scenario {
    /// Compare the gateway, a bare axum server and every peer found; write a report with plots
    Report(Box<Args<ComparisonOptions>>),
    /// Measure cold starts: requests to functions that have left memory
    Cold(Args<ColdOptions>),
    /// Measure deploys, from the upload to the function's first answer
    Deploy(Args<DeployOptions>),
    /// Measure memory and start-up with many functions
    Density(Args<DensityOptions>),
    /// Measure a short function while queued calls drain
    Drain(Args<DrainOptions>),
    /// Measure a short function beside endless loops, and beside uploads that are compiled
    Fairness(Args<FairnessOptions>),
    /// Measure the gateway under more requests than it can serve
    Overload(Args<OverloadOptions>),
    /// Divide the CPU time and the allocations of a request by part, phase and call site
    Profile(Args<ProfileOptions>),
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
        Some(Scenario::Drain(args)) => &args.common,
        Some(Scenario::Fairness(args)) => &args.common,
        Some(Scenario::Overload(args)) => &args.common,
        Some(Scenario::Profile(args)) => &args.common,
    };
    let gateway = &common.gateway;
    let mut machine = Machine::observe(&gateway.binary()?, &gateway.scratch());
    let found = match &cli.scenario {
        None => throughput::run(gateway, &cli.throughput)?,
        Some(Scenario::Report(args)) => comparison::run(gateway, &args.options, &mut machine)?,
        Some(Scenario::Cold(args)) => cold::run(gateway, &args.options)?,
        Some(Scenario::Deploy(args)) => deploy::run(gateway, &args.options)?,
        Some(Scenario::Density(args)) => density::run(gateway, &args.options)?,
        Some(Scenario::Drain(args)) => drain::run(gateway, &args.options)?,
        Some(Scenario::Fairness(args)) => fairness::run(gateway, &args.options)?,
        Some(Scenario::Overload(args)) => overload::run(gateway, &args.options)?,
        Some(Scenario::Profile(args)) => profile::run(gateway, &args.options)?,
    };
    machine.finish();
    report::publish(&machine, &found, common.json.as_deref())
}
