//! From an artifact to native code: found on disk, or compiled in a child process.
//!
//! However many ask for one artifact at once, it is verified or compiled once.

use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    io::{self, Seek as _, SeekFrom},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use moka::future::Cache;
use tokio::{io::AsyncReadExt as _, process::Command, sync::Semaphore, task::spawn_blocking, time};

use crate::{
    code::{
        artifact::ArtifactDigest,
        cache::{CodeCache, NativeCode},
        inspect::{Inspection, PRECOMPILED, looks_like},
        key::CodeKey,
        sandbox::Sandbox,
        snapshot::Snapshot,
        worker::{Job, PROBE, Report, SUBCOMMAND, ended_in_start, last_line},
    },
    error::{LoadError, Refusal},
    limits::ArtifactLimits,
    metrics::{PoolMetrics, start::Tier},
};

/// Bytes of what a worker says that are read. Import lists are the longest part of it.
const REPORT_BYTES: u64 = 256 << 10;
/// Artifacts whose native code is known to be verified. Each entry takes about a kilobyte.
const KNOWN_ARTIFACTS: u64 = 100_000;

/// How often is looked whether others still wait for the compiler. A fraction of what the quickest
/// compilation takes.
const STEP_BACK: Duration = Duration::from_millis(20);

/// How compilation is run and bounded.
#[derive(Clone, Debug)]
pub struct CompileConfig {
    /// The program to start as the worker: this same binary.
    pub worker: PathBuf,
    /// Where native code is kept.
    pub dir: PathBuf,
    /// Compilations that may run at once.
    pub jobs: usize,
    /// Compilations that may wait for those.
    pub queue: usize,
    /// Address space of a worker, in bytes.
    pub memory_bytes: u64,
    /// CPU time of a worker, in seconds.
    pub cpu_s: u64,
    /// Wall-clock time of a worker.
    pub wall: Duration,
    /// Bytes of native code that one artifact may become.
    pub output_bytes: u64,
    /// Compilations that deploys may begin within a minute. What is published is compiled anew
    /// however often that is needed.
    pub deploys_per_minute: usize,
}

/// What native code is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An owner deploys it.
    Deploy,
    /// It was deployed, and is to run.
    InvocationState,
}

/// Makes, finds and remembers native code.
pub(crate) struct Compiler {
    config: CompileConfig,
    artifact: ArtifactLimits,
    cache: Arc<CodeCache>,
    known: Cache<CodeKey, Arc<NativeCode>>,
    jobs: Semaphore,
    waiting: AtomicUsize,
    rate: Rate,
    metrics: PoolMetrics,
}

impl Compiler {
    pub(crate) fn new(
        config: CompileConfig,
        artifact: ArtifactLimits,
        cache: CodeCache,
        metrics: PoolMetrics,
    ) -> Self {
        Self {
            jobs: Semaphore::new(config.jobs),
            cache: Arc::new(cache),
            known: Cache::new(KNOWN_ARTIFACTS),
            waiting: AtomicUsize::new(0),
            rate: Rate::new(config.deploys_per_minute),
            config,
            artifact,
            metrics,
        }
    }

    /// The native code of the artifact at `path`, compiled first if need be; and from how far it
    /// came: `frozen` for whoever had it compiled.
    pub(crate) async fn native_code(
        &self,
        key: &CodeKey,
        path: &Path,
        purpose: Purpose,
    ) -> Result<(Arc<NativeCode>, Tier), LoadError> {
        let outcome = self.find_or_compile(key, path, purpose).await;
        // Whoever came first may have failed for a reason that is not that of the others: a deploy
        // for its quota, a call for the damaged file that a deploy of the same bytes mends.
        let not_ours = match &outcome {
            Err(LoadError::CompileRate { .. }) => purpose == Purpose::InvocationState,
            Err(LoadError::Damaged | LoadError::Missing) => purpose == Purpose::Deploy,
            _ => false,
        };
        if not_ours { self.find_or_compile(key, path, purpose).await } else { outcome }
    }

    async fn find_or_compile(
        &self,
        key: &CodeKey,
        path: &Path,
        purpose: Purpose,
    ) -> Result<(Arc<NativeCode>, Tier), LoadError> {
        let mut tier = Tier::Cold;
        let code = self
            .known
            .try_get_with_by_ref(key, async {
                let (cache, wanted) = (Arc::clone(&self.cache), key.clone());
                let found = spawn_blocking(move || cache.find(&wanted)).await.map_err(panicked)?;
                match found {
                    Some(code) => Ok(Arc::new(code)),
                    None => {
                        tier = Tier::Frozen;
                        self.compile(key, path, purpose).await.map(Arc::new)
                    }
                }
            })
            .await
            .map_err(|error: Arc<LoadError>| LoadError::clone(&error))?;
        Ok((code, tier))
    }

    /// Whether there may be no native code of something that is active, because another build was at
    /// work here last.
    pub(crate) fn may_lack_code(&self) -> bool {
        !self.cache.is_complete()
    }

    /// Notes that there is native code of all that is active.
    pub(crate) async fn mark_code_complete(&self) -> Result<(), LoadError> {
        let cache = Arc::clone(&self.cache);
        let noted = spawn_blocking(move || cache.set_complete()).await.map_err(panicked)?;
        noted.map_err(LoadError::io("noting that native code is complete"))
    }

    /// Those of `keys` that have native code on the disk.
    pub(crate) async fn on_disk(&self, keys: Vec<CodeKey>) -> Result<HashSet<CodeKey>, LoadError> {
        let cache = Arc::clone(&self.cache);
        let look = move || keys.into_iter().filter(|key| cache.has(key)).collect();
        spawn_blocking(look).await.map_err(panicked)
    }

    /// Makes native code that nobody waits for, when nobody waits for any other.
    pub(crate) async fn compile_in_background(
        &self,
        key: &CodeKey,
        path: &Path,
    ) -> Result<(), LoadError> {
        loop {
            while self.waiting.load(Relaxed) > 0 {
                time::sleep(STEP_BACK).await;
            }
            match self.native_code(key, path, Purpose::InvocationState).await {
                // Others came in this moment, and many at once.
                Err(LoadError::CompilerBusy) => {}
                outcome => return outcome.map(drop),
            }
        }
    }

    /// Keeps the plain native code in place of one with a snapshot, which turned out not to work.
    pub(crate) async fn without_snapshot(
        &self,
        key: &CodeKey,
        path: &Path,
        reason: String,
    ) -> Result<Arc<NativeCode>, LoadError> {
        let plain = CodeKey { digest: key.digest, start_up: None };
        let (plain, _) = self.native_code(&plain, path, Purpose::InvocationState).await?;
        let (cache, wanted) = (Arc::clone(&self.cache), key.clone());
        let snapshot = Some(Snapshot::NotTaken { reason });
        let inspection = Inspection { snapshot, ..plain.inspection.clone() };
        let kept = spawn_blocking(move || {
            let mut copy = cache.temporary()?;
            io::copy(&mut plain.verified_file()?, &mut copy)?;
            cache.keep(&wanted, inspection, copy)
        });
        let code = kept.await.map_err(panicked)?.map_err(LoadError::io("keeping native code"))?;
        let code = Arc::new(code);
        self.known.insert(key.clone(), Arc::clone(&code)).await;
        Ok(code)
    }

    /// What became of a snapshot, as far as that is known without making it.
    pub(crate) async fn snapshot(&self, key: &CodeKey) -> Option<Snapshot> {
        if let Some(code) = self.known.get(key).await {
            return code.inspection.snapshot.clone();
        }
        let (cache, key) = (Arc::clone(&self.cache), key.clone());
        spawn_blocking(move || cache.inspection(&key)).await.ok()??.snapshot
    }

    /// Lets deploys begin so many compilations within a minute from here on.
    pub(crate) fn set_deploys_per_minute(&self, most: usize) {
        self.rate.per_minute.store(most, Relaxed);
    }

    /// Whether native code is at hand without compiling.
    pub(crate) fn knows(&self, key: &CodeKey) -> bool {
        self.known.contains_key(key)
    }

    /// Drops what is known of native code, so that its file is checked anew.
    pub(crate) async fn doubt(&self, key: &CodeKey) {
        self.known.invalidate(key).await;
    }

    /// Removes an artifact's native code from the disk, with each of its snapshots.
    pub(crate) async fn forget(&self, digest: ArtifactDigest) {
        // What is still known of its snapshots goes when it is looked for and not there.
        self.doubt(&CodeKey { digest, start_up: None }).await;
        let cache = Arc::clone(&self.cache);
        // A panic in there would already be in the log; the file is a cache entry.
        let _ = spawn_blocking(move || cache.forget(&digest)).await;
    }

    /// Removes the native code of old builds from the disk.
    pub(crate) async fn forget_old_builds(&self) -> Result<(), LoadError> {
        let cache = Arc::clone(&self.cache);
        let removed = spawn_blocking(move || cache.forget_old_builds()).await.map_err(panicked)?;
        removed.map_err(LoadError::io("removing native code of old builds"))
    }

    async fn compile(
        &self,
        key: &CodeKey,
        path: &Path,
        purpose: Purpose,
    ) -> Result<NativeCode, LoadError> {
        // Refused before it takes anybody's place, and without a child.
        let wasm = open_wasm(path)?;
        let _waiting = Waiting::join(&self.waiting, self.config.jobs + self.config.queue)?;
        if purpose == Purpose::Deploy {
            self.rate.admit(Instant::now())?;
        }
        let _job = self.jobs.acquire().await.expect("the semaphore is never closed");
        let started = Instant::now();
        let result = self.run_worker(key, wasm).await;
        self.metrics.compiled(started.elapsed(), result.as_ref().err().map(LoadError::fault));
        result
    }

    /// Which barriers around the compile worker this machine has: one is started that tries them.
    pub(crate) async fn sandbox(&self) -> io::Result<Sandbox> {
        let probe = self.worker().arg(PROBE).stdin(Stdio::null()).output();
        let said = time::timeout(self.config.wall, probe).await??;
        let sandbox: Sandbox = serde_json::from_slice(&said.stdout)?;
        for (kind, stands) in sandbox.barriers() {
            self.metrics.sandbox.with_label_values(&[kind]).set(stands.into());
        }
        Ok(sandbox)
    }

    /// A worker to be started: a group of its own, nothing of our environment, and gone when
    /// nobody waits for it.
    fn worker(&self) -> Command {
        let mut worker = Command::new(&self.config.worker);
        worker.arg(SUBCOMMAND).env_clear().process_group(0).kill_on_drop(true);
        worker
    }

    async fn run_worker(&self, key: &CodeKey, wasm: File) -> Result<NativeCode, LoadError> {
        let code =
            self.cache.temporary().map_err(LoadError::io("making a file for native code"))?;
        let output = code.reopen().map_err(LoadError::io("opening a file for native code"))?;
        let job = Job {
            code: key.clone(),
            memory_bytes: self.config.memory_bytes,
            cpu_s: self.config.cpu_s,
            output_bytes: self.config.output_bytes,
            artifact: self.artifact,
        };
        let mut child = self
            .worker()
            .args(job.to_arguments())
            .stdin(Stdio::from(wasm))
            .stdout(Stdio::from(output))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(LoadError::io("starting the compile worker"))?;
        let stderr = child.stderr.take().expect("standard error was asked for");
        let mut said = Vec::new();
        let finished = time::timeout(self.config.wall, async {
            stderr.take(REPORT_BYTES).read_to_end(&mut said).await?;
            child.wait().await
        })
        .await;
        let starting = ended_in_start(&said);
        let Ok(status) = finished else {
            let what = format!("more than {:?} (compile.wall_s)", self.config.wall);
            return Err(too_much(starting, key, &what));
        };
        let status = status.map_err(LoadError::io("waiting for the compile worker"))?;
        let inspection = match self.judge(status, &said)? {
            Ok(inspection) => inspection,
            Err(what) => return Err(too_much(starting, key, &what)),
        };
        let (cache, key) = (Arc::clone(&self.cache), key.clone());
        spawn_blocking(move || cache.keep(&key, inspection, code))
            .await
            .map_err(panicked)?
            .map_err(LoadError::io("keeping native code"))
    }

    /// What the worker's end means: what it found, or of what it took more than it may.
    fn judge(
        &self,
        status: ExitStatus,
        said: &[u8],
    ) -> Result<Result<Inspection, String>, LoadError> {
        use rustix::process::Signal;
        match serde_json::from_slice(last_line(said)) {
            Ok(Report::Compiled(inspection)) if status.success() => return Ok(Ok(inspection)),
            Ok(Report::Refused(refusal)) if status.success() => return Err(refusal.into()),
            Ok(Report::Damaged) if status.success() => return Err(LoadError::Damaged),
            Ok(Report::NoSpace) if status.success() => return Err(LoadError::NoSpace),
            Ok(_) | Err(_) => {}
        }
        let signal = status.signal().and_then(Signal::from_named_raw);
        let what = match signal {
            Some(Signal::XCPU) => {
                format!("more than {} s of CPU time (compile.cpu_s)", self.config.cpu_s)
            }
            // Nobody but the kernel does that, and it does so when memory runs out.
            Some(Signal::KILL) => "more memory than the machine has left".to_owned(),
            // The allocator aborts when the address space is used up.
            Some(Signal::ABORT) => {
                format!(
                    "more than {} bytes of memory (compile.memory_bytes)",
                    self.config.memory_bytes
                )
            }
            Some(Signal::XFSZ) => {
                format!(
                    "more than {} bytes of code (compile.output_bytes)",
                    self.config.output_bytes
                )
            }
            _ => {
                let text = String::from_utf8_lossy(&said[..said.len().min(1_024)]);
                let cause = io::Error::other(format!("{status}: {text}"));
                return Err(LoadError::io("running the compile worker")(cause));
            }
        };
        Ok(Err(what))
    }
}

/// Says who took too much: the compiler, or the guest's start-up function.
fn too_much(starting: bool, key: &CodeKey, what: &str) -> LoadError {
    match &key.start_up {
        Some(start_up) if starting => {
            let function = &start_up.function;
            Refusal::StartUp(format!("`{function}` takes more than the platform allows: {what}"))
        }
        _ => Refusal::CompileLimit(what.to_owned()),
    }
    .into()
}

/// Opens an artifact. Most uploads that are no wasm at all need no child to find out.
fn open_wasm(path: &Path) -> Result<File, LoadError> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LoadError::Missing,
        _ => LoadError::io("opening the artifact")(error),
    })?;
    let mut start = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(&mut file, 4_096), &mut start)
        .map_err(LoadError::io("reading the artifact"))?;
    file.seek(SeekFrom::Start(0)).map_err(LoadError::io("reading the artifact"))?;
    if start.starts_with(b"\0asm") && start.len() >= 8 {
        Ok(file)
    } else {
        // Only the whole file shows what an ELF file is for.
        let precompiled = wasmtime::Engine::detect_precompiled_file(path).ok().flatten();
        let what = if precompiled.is_some() { PRECOMPILED } else { looks_like(&start) };
        Err(Refusal::NotWasm(what.into()).into())
    }
}

fn panicked(error: tokio::task::JoinError) -> LoadError {
    LoadError::io("handling native code")(io::Error::other(error))
}

/// A place in the line of compilations; given up when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(count: &'a AtomicUsize, max: usize) -> Result<Self, LoadError> {
        let place = Self(count);
        if count.fetch_add(1, Relaxed) < max { Ok(place) } else { Err(LoadError::CompilerBusy) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// When the deploys of the last minute began to compile.
struct Rate {
    per_minute: AtomicUsize,
    begun: Mutex<VecDeque<Instant>>,
}

impl Rate {
    const MINUTE: Duration = Duration::from_mins(1);

    fn new(per_minute: usize) -> Self {
        Self { per_minute: AtomicUsize::new(per_minute), begun: Mutex::default() }
    }

    fn admit(&self, now: Instant) -> Result<(), LoadError> {
        let per_minute = self.per_minute.load(Relaxed);
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        while begun.front().is_some_and(|first| now.duration_since(*first) >= Self::MINUTE) {
            begun.pop_front();
        }
        if begun.len() < per_minute {
            begun.push_back(now);
            return Ok(());
        }
        let oldest = begun.front().map_or(Duration::ZERO, |first| now.duration_since(*first));
        let retry_after = Self::MINUTE.saturating_sub(oldest);
        Err(LoadError::CompileRate { per_minute, retry_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u17_so_many_deploys_compile_within_a_minute_and_the_next_is_told_when() {
        let rate = Rate::new(2);
        let start = Instant::now();
        let after = |seconds| rate.admit(start + Duration::from_secs(seconds));
        let wait = |refused: Result<(), LoadError>| match refused {
            Err(LoadError::CompileRate { retry_after, .. }) => retry_after.as_secs(),
            other => panic!("{other:?}"),
        };
        after(0).unwrap();
        after(20).unwrap();
        assert_eq!(wait(after(20)), 40);
        assert_eq!(wait(after(59)), 1);
        after(60).unwrap();
        assert_eq!(wait(after(60)), 20);
        after(80).unwrap();

        let none = Rate::new(0);
        assert_eq!(wait(none.admit(start)), 60);
    }
}
