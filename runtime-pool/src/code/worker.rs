//! The compile worker: a child process that reads a wasm binary from its standard input and
//! writes native code to its standard output, under limits that the kernel enforces.
//!
//! Hostile binaries can make a compiler slow, greedy or wrong; here that costs a child. What it
//! has to say goes to standard error: a line when the guest's own start-up begins and one when it
//! is over, if a snapshot is asked for, and at the end a report as one line of JSON.

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
    code::{
        artifact::{ArtifactDigest, Kind},
        inspect::{Inspection, inspect},
        key::{CodeKey, StartUp},
        sandbox,
        snapshot::{self, Failure, Image, Snapshot},
    },
    engine::compiling_engine,
    error::Refusal,
    limits::ArtifactLimits,
};

/// The hidden subcommand under which the binary starts as a worker.
pub(crate) const SUBCOMMAND: &str = "compile-worker";
/// In place of a job: the worker tries its barriers and reports which stand.
pub(crate) const PROBE: &str = "probe";
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

/// Said when the guest's start-up function is about to run, and when it has: a worker that dies in
/// between does so by the guest's doing.
const START_BEGINS: &str = "start begins";
const START_ENDS: &str = "start ends";

/// Whether the guest's start-up was under way when the worker ended.
pub(crate) fn ended_in_start(said: &[u8]) -> bool {
    let reached = |stage: &str| lines(said).any(|line| line == stage.as_bytes());
    reached(START_BEGINS) && !reached(START_ENDS)
}

/// Where the report is, if the worker came to one.
pub(crate) fn last_line(said: &[u8]) -> &[u8] {
    lines(said).last().unwrap_or_default()
}

fn lines(said: &[u8]) -> impl Iterator<Item = &[u8]> {
    said.split(|byte| *byte == b'\n')
}

/// What the worker is to compile and what it may use, as its command line.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) code: CodeKey,
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_s: u64,
    pub(crate) output_bytes: u64,
    pub(crate) artifact: ArtifactLimits,
}

impl Job {
    pub(crate) fn to_arguments(&self) -> Vec<String> {
        let digest = self.code.digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let limits = [self.memory_bytes, self.cpu_s, self.output_bytes];
        let mut arguments = vec![digest];
        arguments.extend(limits.map(|value| value.to_string()));
        arguments.push(serde_json::to_string(&self.artifact).expect("numbers can be written"));
        if let Some(StartUp { function, memory_bytes }) = &self.code.start_up {
            arguments.extend([memory_bytes.to_string(), function.to_string()]);
        }
        arguments
    }

    fn from_arguments(arguments: &[String]) -> Option<Self> {
        let (limits, start_up) = arguments.split_at_checked(5)?;
        let [digest, memory, cpu, output, artifact] = limits else { return None };
        let start_up = match start_up {
            [] => None,
            [memory_bytes, function] => {
                let memory_bytes = memory_bytes.parse().ok()?;
                Some(StartUp { function: function.as_str().into(), memory_bytes })
            }
            _ => return None,
        };
        Some(Self {
            code: CodeKey { digest: ArtifactDigest(from_hex(digest)?), start_up },
            memory_bytes: memory.parse().ok()?,
            cpu_s: cpu.parse().ok()?,
            output_bytes: output.parse().ok()?,
            artifact: serde_json::from_str(artifact).ok()?,
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
/// digest and the worker's limits. Must be called before any thread is started: the limits hold
/// for the whole process, the barriers for this thread and those that it starts.
pub fn compile_worker(arguments: &[String]) -> ExitCode {
    if arguments == [PROBE] {
        return probe();
    }
    match Job::from_arguments(arguments).ok_or(()).and_then(|job| work(&job)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}

fn work(job: &Job) -> Result<(), ()> {
    confine(job).map_err(|error| complain(&error))?;
    sandbox::raise();
    // Now, as long as there is memory for their stacks: the compiler panics if it cannot have them.
    let threads = rayon::ThreadPoolBuilder::new().build_global();
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm).map_err(|error| complain(&error))?;
    let report = if threads.is_err() {
        let bytes = job.memory_bytes;
        let what =
            format!("its threads need more than {bytes} bytes of memory (compile.memory_bytes)");
        Report::Refused(Refusal::CompileLimit(what))
    } else if Sha256::digest(&wasm).as_slice() == job.code.digest.0 {
        match compile(&wasm, job) {
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
    // In one piece: the stream has no buffer.
    let report = serde_json::to_vec(&report).map_err(|error| complain(&error.into()))?;
    io::stderr().lock().write_all(&report).map_err(|error| complain(&error))
}

/// Raises the barriers as for a job, tries them, and writes down what came of it.
fn probe() -> ExitCode {
    let mut sandbox = sandbox::raise();
    sandbox.reached = sandbox::try_the_barriers();
    match serde_json::to_writer(io::stdout().lock(), &sandbox) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.into());
            ExitCode::FAILURE
        }
    }
}

/// The parent logs whatever is not a report.
fn complain(error: &io::Error) {
    if error.kind() == io::ErrorKind::OutOfMemory {
        // As where an allocation cannot fail in any other way: whoever waits for us knows that.
        std::process::abort();
    }
    // Standard error is all there is to complain to.
    let _ = writeln!(io::stderr().lock(), "compile worker: {error}");
}

fn confine(job: &Job) -> io::Result<()> {
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

fn compile(wasm: &[u8], job: &Job) -> Result<(Inspection, Vec<u8>), Refusal> {
    let mut inspection = inspect(wasm, &job.artifact)?;
    let invalid = |error: wasmtime::Error| Refusal::Invalid(format!("{error:#}"));
    if let Some(start_up) = &job.code.start_up {
        match start_and_compile(wasm, inspection.kind, start_up, &job.artifact) {
            Ok((snapshot, native)) => {
                inspection.snapshot = Some(snapshot);
                return Ok((inspection, native));
            }
            Err(Failure::Failed(why)) => {
                return Err(Refusal::StartUp(format!("`{}` failed: {why}", start_up.function)));
            }
            Err(Failure::Unfit(reason)) => {
                inspection.snapshot = Some(Snapshot::NotTaken { reason });
            }
        }
    }
    let native = precompile(wasm, inspection.kind).map_err(invalid)?;
    Ok((inspection, native))
}

fn start_and_compile(
    wasm: &[u8],
    kind: Kind,
    start_up: &StartUp,
    limits: &ArtifactLimits,
) -> Result<(Snapshot, Vec<u8>), Failure> {
    stage(START_BEGINS);
    let image = snapshot::take(wasm, kind, start_up);
    stage(START_ENDS);
    let Image { wasm, snapshot } = image?;
    // The image has to pass what the artifact did.
    let unfit = |what: &dyn std::fmt::Display| Failure::Unfit(format!("of its image, {what}"));
    inspect(&wasm, limits).map_err(|refusal| unfit(&refusal))?;
    let native = precompile(&wasm, kind)
        .map_err(|error| unfit(&format!("compiling it failed: {error:#}")))?;
    Ok((snapshot, native))
}

fn stage(stage: &str) {
    // Only a report that breaks off needs it.
    let _ = writeln!(io::stderr().lock(), "{stage}");
}

fn precompile(wasm: &[u8], kind: Kind) -> wasmtime::Result<Vec<u8>> {
    let engine = compiling_engine(kind.engine())?;
    match kind {
        Kind::WasiPreview1 => engine.precompile_module(wasm),
        Kind::WasiHttp02 | Kind::WasiHttp03 | Kind::WasiCommand => {
            engine.precompile_component(wasm)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_its_command_line() {
        let digest = ArtifactDigest(std::array::from_fn(|index| index as u8 * 7));
        let start_up = StartUp { function: "wizer-initialize".into(), memory_bytes: 4 };
        for start_up in [None, Some(start_up)] {
            let code = CodeKey { digest, start_up };
            let artifact = ArtifactLimits { tables: 4, ..ArtifactLimits::default() };
            let job =
                Job { code: code.clone(), memory_bytes: 1, cpu_s: 2, output_bytes: 3, artifact };
            let read = Job::from_arguments(&job.to_arguments()).unwrap();
            assert_eq!((read.code, read.memory_bytes), (code, 1));
            assert_eq!((read.cpu_s, read.output_bytes, read.artifact), (2, 3, artifact));
        }
    }

    #[test]
    fn a_command_line_that_is_no_job_is_refused() {
        let digest = "00".repeat(32);
        for arguments in [
            &["x", "1", "2", "3", "{}"][..],
            &[&digest, "1", "2", "3"],
            &[&digest, "1", "2", "3", "{}"],
            &["1", "2", "3"],
            &[],
        ] {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            assert!(Job::from_arguments(&arguments).is_none(), "{arguments:?}");
        }
    }
    #[test]
    fn a_report_is_told_from_the_stages_before_it() {
        let (begun, ended) =
            (format!("{START_BEGINS}\n"), format!("{START_BEGINS}\n{START_ENDS}\n"));
        for (said, in_start, report) in [
            (String::new(), false, ""),
            ("{}".to_owned(), false, "{}"),
            (begun.clone(), true, ""),
            (format!("{begun}memory allocation failed\n"), true, ""),
            (format!("{ended}memory allocation failed\n"), false, ""),
            (format!("{ended}{{}}"), false, "{}"),
        ] {
            assert_eq!(ended_in_start(said.as_bytes()), in_start, "{said:?}");
            assert_eq!(last_line(said.as_bytes()), report.as_bytes(), "{said:?}");
        }
    }
}
