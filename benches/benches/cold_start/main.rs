//! Cold starts: in process, by phase, and beside the starts of processes and containers.
//!
//! `functions/build all && cargo bench --workspace --bench cold_start [-- FILTER]`, then
//! `target/release/cold-start-table` for the tables of `docs/cold-start.md`.
//!
//! - `baseline/<name>`: processes and containers, each started for one answer (`baselines`).
//! - `cold_start/<tier>/<guest>`: from a tier to the end of the answer (`tiers`).
//! - `phase/<phase>/<guest>`: the phases of that time (`tiers`).
//! - `engine/<strategy>/<guest>`: ways to allocate instances, with Wasmtime alone (`engines`).
//!
//! Programs and guests that a machine lacks are named and skipped. Each benchmark prepares only
//! what it needs itself, so that a run with a filter is short.

#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

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
    // The pool starts its own program as the compile worker, here as in `mayfly`.
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

/// Reports a skipped benchmark and the reason.
fn report_skipped(what: &str, why: &str) {
    // A closed standard error must not end the benchmark.
    let _ = writeln!(std::io::stderr().lock(), "skipped: {what}: {why}");
}
