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
use sha2::{Digest as _, Sha256};

use crate::{
    artifact::{ArtifactDigest, Kind},
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
    /// The bytes are not those that were meant.
    Damaged,
    /// There is no space left for native code.
    NoSpace,
}

/// What the worker is to compile and what it may use, as its command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) digest: ArtifactDigest,
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_s: u64,
    pub(crate) output_bytes: u64,
}

impl Job {
    pub(crate) fn to_arguments(self) -> [String; 4] {
        let digest = self.digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let limits = [self.memory_bytes, self.cpu_s, self.output_bytes];
        let [memory, cpu, output] = limits.map(|value| value.to_string());
        [digest, memory, cpu, output]
    }

    fn from_arguments(arguments: &[String]) -> Option<Self> {
        let [digest, memory, cpu, output] = arguments else { return None };
        Some(Self {
            digest: ArtifactDigest(from_hex(digest)?),
            memory_bytes: memory.parse().ok()?,
            cpu_s: cpu.parse().ok()?,
            output_bytes: output.parse().ok()?,
        })
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Runs the compile worker: what the hidden subcommand does with its `arguments`: the artifact's
/// digest and the worker's limits. Must be called before any thread is started: the limits hold for the whole process.
pub fn compile_worker(arguments: &[String]) -> ExitCode {
    match Job::from_arguments(arguments).ok_or(()).and_then(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}

fn work(job: Job) -> Result<(), ()> {
    confine(job).map_err(|error| complain(&error))?;
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm).map_err(|error| complain(&error))?;
    let report = if Sha256::digest(&wasm).as_slice() == job.digest.0 {
        match compile(&wasm) {
            Ok((inspection, native)) => match io::stdout().lock().write_all(&native) {
                Ok(()) => Report::Compiled(inspection),
                Err(error) if error.kind() == io::ErrorKind::StorageFull => Report::NoSpace,
                Err(error) => {
                    complain(&error);
                    return Err(());
                }
            },
            Err(refusal) => Report::Refused(refusal),
        }
    } else {
        Report::Damaged
    };
    serde_json::to_writer(io::stderr().lock(), &report).map_err(|error| complain(&error.into()))
}

/// The parent logs whatever is not a report.
fn complain(error: &io::Error) {
    // Standard error is all there is to complain to.
    let _ = writeln!(io::stderr().lock(), "compile worker: {error}");
}

fn confine(job: Job) -> io::Result<()> {
    // A gateway that is killed takes its workers along.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    setpriority_process(None, NICE)?;
    let limit = |resource, value: u64| {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
    };
    limit(Resource::As, job.memory_bytes)?;
    // At the soft limit the kernel sends SIGXCPU, which tells the parent why the worker died.
    setrlimit(Resource::Cpu, Rlimit { current: Some(job.cpu_s), maximum: Some(job.cpu_s + 1) })?;
    limit(Resource::Fsize, job.output_bytes)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_its_command_line() {
        let digest = ArtifactDigest(std::array::from_fn(|index| index as u8 * 7));
        let job = Job { digest, memory_bytes: 1, cpu_s: 2, output_bytes: 3 };
        let read = Job::from_arguments(&job.to_arguments()).unwrap();
        assert_eq!((read.digest, read.memory_bytes), (digest, 1));
        assert_eq!((read.cpu_s, read.output_bytes), (2, 3));
    }

    #[test]
    fn a_command_line_that_is_no_job_is_refused() {
        for arguments in [&["x", "1", "2", "3"][..], &["1", "2", "3"], &[]] {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            assert!(Job::from_arguments(&arguments).is_none(), "{arguments:?}");
        }
    }
}
