//! The compile worker: a child process that reads a wasm binary from its standard input and
//! writes native code to its standard output, under limits that the kernel enforces.
//!
//! Hostile binaries can make a compiler slow, greedy or wrong; here that costs a child. What it
//! has to say goes to standard error as one line of JSON.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use rustix::process::{
    Resource, Rlimit, Signal, set_parent_process_death_signal, setpriority_process, setrlimit,
};
use serde::{Deserialize, Serialize};

use crate::{
    artifact::Kind,
    engine::compiling_engine,
    error::Refusal,
    inspect::{Inspection, inspect},
};

/// The hidden subcommand under which the binary starts as a worker.
pub(crate) const SUBCOMMAND: &str = "compile-worker";
/// Open files that the worker may hold.
const OPEN_FILES: u64 = 64;
/// How far the worker steps back behind invocations.
const NICE: i32 = 10;

/// What the worker found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Native code is on standard output.
    Compiled(Inspection),
    /// There is none, for this reason.
    Refused(Refusal),
}

/// What the worker may use, as its command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerLimits {
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_s: u64,
    pub(crate) output_bytes: u64,
}

impl WorkerLimits {
    pub(crate) fn to_arguments(self) -> [String; 3] {
        [self.memory_bytes, self.cpu_s, self.output_bytes].map(|value| value.to_string())
    }

    fn from_arguments(arguments: Vec<String>) -> Option<Self> {
        let mut values = arguments.into_iter().map(|value| value.parse().ok());
        let mut next = || values.next().flatten();
        Some(Self { memory_bytes: next()?, cpu_s: next()?, output_bytes: next()? })
    }
}

/// Runs the compile worker: what the hidden subcommand does with its `arguments`, which are its
/// limits. Must be called before any thread is started: the limits hold for the whole process.
pub fn compile_worker(arguments: Vec<String>) -> ExitCode {
    match WorkerLimits::from_arguments(arguments).ok_or(()).and_then(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}

fn work(limits: WorkerLimits) -> Result<(), ()> {
    confine(limits).map_err(|error| complain(&error))?;
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm).map_err(|error| complain(&error))?;
    let report = match compile(&wasm) {
        Ok((inspection, native)) => {
            io::stdout().lock().write_all(&native).map_err(|error| complain(&error))?;
            Report::Compiled(inspection)
        }
        Err(refusal) => Report::Refused(refusal),
    };
    serde_json::to_writer(io::stderr().lock(), &report).map_err(|error| complain(&error.into()))
}

/// The parent logs whatever is not a report.
fn complain(error: &io::Error) {
    // Standard error is all there is to complain to.
    let _ = writeln!(io::stderr().lock(), "compile worker: {error}");
}

fn confine(limits: WorkerLimits) -> io::Result<()> {
    // A gateway that is killed takes its workers along.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    setpriority_process(None, NICE)?;
    let limit = |resource, value: u64| {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
    };
    limit(Resource::As, limits.memory_bytes)?;
    // At the soft limit the kernel sends SIGXCPU, which tells the parent why the worker died.
    setrlimit(
        Resource::Cpu,
        Rlimit { current: Some(limits.cpu_s), maximum: Some(limits.cpu_s + 1) },
    )?;
    limit(Resource::Fsize, limits.output_bytes)?;
    limit(Resource::Nofile, OPEN_FILES)?;
    limit(Resource::Core, 0)?;
    Ok(())
}

fn compile(wasm: &[u8]) -> Result<(Inspection, Vec<u8>), Refusal> {
    let inspection = inspect(wasm)?;
    let invalid = |error: wasmtime::Error| Refusal::Invalid(format!("{error:#}"));
    let engine = compiling_engine(inspection.kind.engine()).map_err(invalid)?;
    let native = match inspection.kind {
        Kind::WasiPreview1 => engine.precompile_module(wasm),
        Kind::WasiHttp02 | Kind::WasiHttp03 | Kind::WasiCommand => {
            engine.precompile_component(wasm)
        }
    }
    .map_err(invalid)?;
    Ok((inspection, native))
}
