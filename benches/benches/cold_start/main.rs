//! Cold starts, in process and taken apart, beside the starts of processes and containers.
//!
//! `functions/build all && cargo bench --workspace --bench cold_start [-- FILTER]`, then
//! `target/release/cold-start-table` for the tables of `docs/cold-start.md`.
//!
//! - `baseline/<name>`: what else can be started for one answer (`baselines`).
//! - `cold_start/<tier>/<guest>`: from a tier to the end of the answer (`tiers`).
//! - `phase/<phase>/<guest>`: what that time goes into (`tiers`).
//! - `engine/<strategy>/<guest>`: ways to hold instances, with Wasmtime alone (`engines`).
//!
//! What a machine does not have is named and left out. Nothing is prepared before a benchmark
//! that is wanted needs it, so that a filter makes the run short.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has nobody to tell")]

mod baselines;
mod engines;
mod node;
mod tiers;

use std::{io::Write as _, process::ExitCode};

use criterion::Criterion;

/// The allocator of `mayfly`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The pool starts this program to compile, as it does with `mayfly`.
    if let Some(("compile-worker", job)) = arguments.split_first().map(|(a, b)| (a.as_str(), b)) {
        return runtime_pool::compile_worker(job);
    }
    let mut criterion = Criterion::default().configure_from_args();
    baselines::bench(&mut criterion);
    tiers::bench(&mut criterion);
    engines::bench(&mut criterion);
    criterion.final_summary();
    ExitCode::SUCCESS
}

/// Tells what was left out, and why.
fn left_out(what: &str, why: &str) {
    // Nobody to tell when that fails.
    let _ = writeln!(std::io::stderr().lock(), "left out: {what}: {why}");
}
