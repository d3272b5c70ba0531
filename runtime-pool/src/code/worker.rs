//! The compile worker: a child process that reads a wasm binary from its standard input and
//! writes native code to its standard output, under limits that the kernel enforces.
//!
//! A hostile binary can make a compiler slow, greedy or wrong. In a child that costs the child and
//! nothing else. `job` says how the gateway and the worker talk.

use std::{
    collections::HashSet,
    fmt, fs,
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setpriority_process,
    setrlimit,
};
use sha2::{Digest as _, Sha256};

use crate::{
    code::{
        artifact::Kind,
        core_module::core_module,
        inspect::{Inspection, inspect},
        job::{CompileJob, PROBE, START_UP_BEGINS, START_UP_ENDS, WorkerReport},
        key::StartUp,
        sandbox,
        snapshot::{self, SnapshotFailure, SnapshotImage, SnapshotOutcome},
    },
    engine::compiling_engine,
    error::Refusal,
    host::core_module::served_functions,
    limits::ArtifactLimits,
};

/// Open files that the worker may hold.
const OPEN_FILES: u64 = 64;
/// The worker's niceness: invocations get the processors first.
const NICE: i32 = 10;

/// How readily the kernel ends the worker when memory runs out: before everything else. Its job can be
/// done again.
const OOM_SCORE: &str = "1000";

/// Runs the compile worker. The `arguments` are those of the hidden subcommand: the id of the process
/// that starts it and a job, or the word that asks for a probe of the barriers.
///
/// Call it before any thread is started: the limits hold for the whole process, but the barriers
/// only for this thread and those that it starts.
pub fn compile_worker(arguments: &[String]) -> ExitCode {
    if arguments == [PROBE] {
        return exit_code(probe());
    }
    let Some((parent, job)) = arguments.split_first() else { return ExitCode::FAILURE };
    match (parent.parse().ok().and_then(Pid::from_raw), CompileJob::from_arguments(job)) {
        (Some(parent), Some(job)) => exit_code(work(parent, &job)),
        _ => ExitCode::FAILURE,
    }
}

/// Writes an error in place of a report. The gateway logs it.
fn exit_code(result: io::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if error.kind() == io::ErrorKind::OutOfMemory {
        // The allocator aborts when it fails, so that the gateway takes this signal for a lack of
        // memory.
        std::process::abort();
    }
    // If standard error does not work, there is no other place to report that.
    let _ = writeln!(io::stderr().lock(), "compile worker: {error}");
    ExitCode::FAILURE
}

/// Raises the barriers as for a job, tries them, and writes down the outcome.
fn probe() -> io::Result<()> {
    let mut sandbox = sandbox::raise();
    sandbox.reached = sandbox::try_the_barriers();
    Ok(serde_json::to_writer(io::stdout().lock(), &sandbox)?)
}

/// Does one job: gives up rights, reads the artifact, compiles it, and reports.
fn work(parent: Pid, job: &CompileJob) -> io::Result<()> {
    end_with(parent)?;
    set_limits(job)?;
    sandbox::raise();
    // Started before the artifact takes memory: the compiler panics if its threads cannot have
    // stacks.
    let threads = rayon::ThreadPoolBuilder::new().build_global();
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm)?;
    let report = match threads {
        Ok(()) => compile_and_write(&wasm, job)?,
        Err(_) => WorkerReport::Refused(Refusal::CompileLimit(format!(
            "more than {} bytes of memory (compile.memory_bytes) to start its threads",
            job.memory_bytes
        ))),
    };
    // In one piece, because the stream has no buffer.
    io::stderr().lock().write_all(&serde_json::to_vec(&report)?)
}

/// A gateway that is killed takes its workers along. The kernel sends the signal when the thread ends
/// that has started this process: threads that start workers live as long as the gateway.
fn end_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The gateway may have ended before that.
    if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::other("the gateway has ended")) }
}

fn set_limits(job: &CompileJob) -> io::Result<()> {
    // Where there is no /proc, the kernel chooses as it likes.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    setpriority_process(None, NICE)?;
    let limit = |resource, value: u64| {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
    };
    limit(Resource::As, job.memory_bytes)?;
    // At the soft limit the kernel sends SIGXCPU, which tells the gateway why the worker died.
    setrlimit(Resource::Cpu, Rlimit { current: Some(job.cpu_s), maximum: Some(job.cpu_s + 1) })?;
    limit(Resource::Fsize, job.output_bytes)?;
    limit(Resource::Nofile, OPEN_FILES)?;
    limit(Resource::Core, 0)?;
    Ok(())
}

/// Compiles the artifact and writes native code to standard output.
fn compile_and_write(wasm: &[u8], job: &CompileJob) -> io::Result<WorkerReport> {
    if Sha256::digest(wasm).as_slice() != job.code.digest.0 {
        return Ok(WorkerReport::Damaged);
    }
    let (inspection, native_code) = match compile(wasm, job) {
        Ok(compiled) => compiled,
        Err(refusal) => return Ok(WorkerReport::Refused(refusal)),
    };
    match io::stdout().lock().write_all(&native_code) {
        Ok(()) => Ok(WorkerReport::Compiled(inspection)),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(WorkerReport::NoSpace),
        Err(error) => Err(error),
    }
}

/// Compiles the artifact after its start-up function has run, if a snapshot is asked for and the
/// guest can have one; else as it is.
fn compile(wasm: &[u8], job: &CompileJob) -> Result<(Inspection, Vec<u8>), Refusal> {
    let mut inspection = inspect(wasm, &job.artifact)?;
    if let Some(start_up) = &job.code.start_up {
        match start_and_compile(wasm, inspection.kind, start_up, &job.artifact) {
            Ok((snapshot, native_code)) => {
                inspection.snapshot = Some(snapshot);
                return Ok((inspection, native_code));
            }
            Err(SnapshotFailure::Failed(why)) => {
                return Err(Refusal::StartUp(format!("`{}` failed: {why}", start_up.function)));
            }
            Err(SnapshotFailure::Unfit(reason)) => {
                inspection.snapshot = Some(SnapshotOutcome::NotTaken { reason });
            }
        }
    }
    let core_module = if job.core_modules { alone(wasm, inspection.kind) } else { None };
    inspection.core_module = core_module.is_some();
    let native_code = match core_module {
        Some(module) => precompile_core_module(module, inspection.kind),
        None => precompile(wasm, inspection.kind),
    };
    let native_code = native_code.map_err(|error| Refusal::Invalid(format!("{error:#}")))?;
    Ok((inspection, native_code))
}

/// The core module of a component, if it can run without the component around it.
fn alone(wasm: &[u8], kind: Kind) -> Option<&[u8]> {
    if kind != Kind::WasiHttp02 {
        return None;
    }
    let served: HashSet<_> = served_functions().into_iter().collect();
    let module = core_module(wasm, &|interface, name| served.contains(&(interface, name)));
    module.map(|module| module.bytes)
}

fn precompile_core_module(module: &[u8], kind: Kind) -> wasmtime::Result<Vec<u8>> {
    compiling_engine(kind.engine())?.precompile_module(module)
}

fn start_and_compile(
    wasm: &[u8],
    kind: Kind,
    start_up: &StartUp,
    limits: &ArtifactLimits,
) -> Result<(SnapshotOutcome, Vec<u8>), SnapshotFailure> {
    report_stage(START_UP_BEGINS);
    let image = snapshot::take(wasm, kind, start_up);
    report_stage(START_UP_ENDS);
    let SnapshotImage { wasm, outcome } = image?;
    // The image has to pass the same checks as the artifact.
    let unfit = |what: &dyn fmt::Display| SnapshotFailure::Unfit(format!("of its image, {what}"));
    inspect(&wasm, limits).map_err(|refusal| unfit(&refusal))?;
    let native_code = precompile(&wasm, kind)
        .map_err(|error| unfit(&format!("compiling it failed: {error:#}")))?;
    Ok((outcome, native_code))
}

/// The gateway reads stages only if the report is missing, so a failure to write one is ignored.
fn report_stage(stage: &str) {
    let _ = writeln!(io::stderr().lock(), "{stage}");
}

fn precompile(wasm: &[u8], kind: Kind) -> wasmtime::Result<Vec<u8>> {
    let engine = compiling_engine(kind.engine())?;
    match kind {
        Kind::WasiPreview1 => engine.precompile_module(wasm),
        Kind::WasiHttp02 | Kind::WasiHttp03 | Kind::WasiCommand | Kind::WasiCommand03 => {
            engine.precompile_component(wasm)
        }
    }
}
