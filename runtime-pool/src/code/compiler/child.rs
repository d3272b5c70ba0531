//! The gateway's side of the compile worker: starts it, waits for it, and says what its end means.

use std::{
    fs::File,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
};

use rustix::process::Signal;
use tokio::{io::AsyncReadExt as _, process::Command, time};

use crate::{
    code::{
        compiler::config::CompileConfig,
        inspect::Inspection,
        job::{CompileJob, PROBE, SUBCOMMAND, WorkerReport, died_in_start_up, last_line},
        key::CodeKey,
        sandbox::Sandbox,
    },
    error::{LoadError, Refusal},
};

/// Bytes of a worker's output that are read. Import lists are the longest part of it.
const REPORT_BYTES: u64 = 256 << 10;
/// Bytes of a worker's output that are logged when it makes no report.
const LOGGED_BYTES: usize = 1_024;

/// How a worker ended.
struct WorkerEnd {
    /// `None`: it was killed after its wall-clock time.
    status: Option<ExitStatus>,
    /// Its output on standard error.
    output: Vec<u8>,
}

/// Compiles `wasm` into `native_code` in a child process, and returns what the artifact is.
pub(super) async fn compile(
    config: &CompileConfig,
    job: &CompileJob,
    wasm: File,
    native_code: File,
) -> Result<Inspection, LoadError> {
    let end = run(config, job, wasm, native_code).await?;
    let is_success = end.status.is_some_and(|status| status.success());
    match serde_json::from_slice(last_line(&end.output)) {
        Ok(WorkerReport::Compiled(inspection)) if is_success => Ok(inspection),
        Ok(WorkerReport::Refused(refusal)) if is_success => Err(refusal.into()),
        Ok(WorkerReport::Damaged) if is_success => Err(LoadError::Damaged),
        Ok(WorkerReport::NoSpace) if is_success => Err(LoadError::NoSpace),
        Ok(_) | Err(_) => Err(explain(config, &job.code, &end)),
    }
}

/// Starts a worker that tries its barriers, and returns which of them stand on this machine.
pub(super) async fn probe(config: &CompileConfig) -> io::Result<Sandbox> {
    let probe = worker(config).arg(PROBE).stdin(Stdio::null()).output();
    let output = time::timeout(config.wall, probe).await??;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A worker to be started: in a process group of its own, without our environment, and killed when
/// the future that waits for it is dropped.
fn worker(config: &CompileConfig) -> Command {
    let mut worker = Command::new(&config.worker);
    worker.arg(SUBCOMMAND).env_clear().process_group(0).kill_on_drop(true);
    worker
}

async fn run(
    config: &CompileConfig,
    job: &CompileJob,
    wasm: File,
    native_code: File,
) -> Result<WorkerEnd, LoadError> {
    let mut child = worker(config)
        .arg(std::process::id().to_string())
        .args(job.to_arguments())
        .stdin(Stdio::from(wasm))
        .stdout(Stdio::from(native_code))
        .stderr(Stdio::piped())
        .spawn()
        .map_err(LoadError::io("starting the compile worker"))?;
    let stderr = child.stderr.take().expect("standard error was asked for");
    let mut output = Vec::new();
    let finished = time::timeout(config.wall, async {
        stderr.take(REPORT_BYTES).read_to_end(&mut output).await?;
        child.wait().await
    })
    .await;
    let status = match finished {
        Ok(status) => Some(status.map_err(LoadError::io("waiting for the compile worker"))?),
        Err(_) => None,
    };
    Ok(WorkerEnd { status, output })
}

/// Why a worker ended without a report: it exceeded a limit, or it is broken.
fn explain(config: &CompileConfig, key: &CodeKey, end: &WorkerEnd) -> LoadError {
    let Some(what) = exceeded(config, end.status) else {
        let text = String::from_utf8_lossy(&end.output[..end.output.len().min(LOGGED_BYTES)]);
        let status = end.status.map(|status| status.to_string()).unwrap_or_default();
        let cause = io::Error::other(format!("{status}: {text}"));
        return LoadError::io("running the compile worker")(cause);
    };
    match &key.start_up {
        Some(start_up) if died_in_start_up(&end.output) => {
            let function = &start_up.function;
            Refusal::StartUp(format!("`{function}` needs {what}"))
        }
        _ => Refusal::CompileLimit(what),
    }
    .into()
}

/// The limit that a worker exceeded, if the way it ended shows one.
fn exceeded(config: &CompileConfig, status: Option<ExitStatus>) -> Option<String> {
    let Some(status) = status else {
        return Some(format!("more than {:?} (compile.wall_s)", config.wall));
    };
    match status.signal().and_then(Signal::from_named_raw)? {
        Signal::XCPU => Some(format!("more than {} s of CPU time (compile.cpu_s)", config.cpu_s)),
        // The kernel kills a process when memory runs out; nothing else sends this signal here.
        Signal::KILL => Some("more memory than the machine has left".to_owned()),
        // The allocator aborts when the address space is used up.
        Signal::ABORT => Some(format!(
            "more than {} bytes of memory (compile.memory_bytes)",
            config.memory_bytes
        )),
        Signal::XFSZ => Some(format!(
            "more than {} bytes for its native code (compile.output_bytes)",
            config.output_bytes
        )),
        _ => None,
    }
}
