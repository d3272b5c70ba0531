//! From an artifact to native code: found on disk, or compiled in a child process.
//!
//! Concurrent requests for the same native code share one verification or one compilation.

mod child;
mod config;
mod deploy_rate;
mod line;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use moka::future::Cache;
use tokio::{task::spawn_blocking, time};

pub use self::{config::CompileConfig, line::Uploader};
use self::{
    deploy_rate::DeployRate,
    line::{Claim, CompileLine},
};
use crate::{
    code::{
        artifact::ArtifactDigest,
        cache::{CodeCache, NativeCode},
        inspect::{Inspection, looks_like},
        job::CompileJob,
        key::CodeKey,
        sandbox::Sandbox,
        snapshot::SnapshotOutcome,
    },
    error::{LoadError, Refusal},
    limits::ArtifactLimits,
    metrics::{PoolMetrics, start::Tier},
};

/// Native code that is remembered as verified. Each entry takes about a kilobyte.
const VERIFIED_MAX: u64 = 100_000;
/// How often a background compilation checks whether others still wait for the compiler. A fraction
/// of the time that the quickest compilation takes.
const BACKGROUND_CHECK: Duration = Duration::from_millis(20);
/// Bytes from the start of an artifact that show whether it can be wasm.
const START_BYTES: u64 = 4_096;

/// The reason for a request of native code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An owner deploys it.
    Deploy(Uploader),
    /// It was deployed, and is to run.
    Invocation,
    /// It was deployed, and nobody waits for it.
    Background,
}

/// Finds native code, or makes it, and remembers what it has verified.
pub(crate) struct Compiler {
    config: CompileConfig,
    artifact: ArtifactLimits,
    cache: Arc<CodeCache>,
    verified: Cache<CodeKey, Arc<NativeCode>>,
    line: CompileLine,
    deploy_rate: DeployRate,
    /// The most bytes of native code on the disk.
    code_bytes: AtomicU64,
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
            line: CompileLine::new(config.jobs, config.queue),
            cache: Arc::new(cache),
            verified: Cache::new(VERIFIED_MAX),
            deploy_rate: DeployRate::new(config.deploys_per_minute),
            code_bytes: AtomicU64::new(config.code_bytes),
            config,
            artifact,
            metrics,
        }
    }

    /// The native code of the artifact at `path`, compiled first if there is none; and its tier,
    /// which is `frozen` for the request that had it compiled.
    ///
    /// Where an invocation waits for it, this goes on if the invocation does not wait any longer: the
    /// next one finds what was compiled.
    pub(crate) async fn native_code(
        self: &Arc<Self>,
        key: &CodeKey,
        path: &Path,
        purpose: Purpose,
    ) -> Result<(Arc<NativeCode>, Tier), LoadError> {
        if purpose != Purpose::Invocation {
            return self.attempt(key, path, purpose).await;
        }
        if let Some(code) = self.verified.get(key).await {
            return Ok((code, Tier::Cold));
        }
        let (compiler, key, path) = (Arc::clone(self), key.clone(), path.to_owned());
        // The task has no owner: it ends with the compilation, and its panic affects only those who
        // wait for it.
        let attempt = tokio::spawn(async move { compiler.attempt(&key, &path, purpose).await });
        attempt.await.map_err(|panic| LoadError::io("compiling")(io::Error::other(panic)))?
    }

    async fn attempt(
        &self,
        key: &CodeKey,
        path: &Path,
        purpose: Purpose,
    ) -> Result<(Arc<NativeCode>, Tier), LoadError> {
        match self.find_or_compile(key, path, purpose).await {
            Err(error) if is_from_another_purpose(&error, purpose) => {
                self.find_or_compile(key, path, purpose).await
            }
            outcome => outcome,
        }
    }

    async fn find_or_compile(
        &self,
        key: &CodeKey,
        path: &Path,
        purpose: Purpose,
    ) -> Result<(Arc<NativeCode>, Tier), LoadError> {
        let mut tier = Tier::Cold;
        let find_or_compile = async {
            if let Some(code) = self.find(key).await? {
                return Ok(Arc::new(code));
            }
            tier = Tier::Frozen;
            self.compile(key, path, purpose).await.map(Arc::new)
        };
        let code = self.verified.try_get_with_by_ref(key, find_or_compile).await;
        Ok((code.map_err(|error: Arc<LoadError>| LoadError::clone(&error))?, tier))
    }

    /// Native code from the disk, if its seal is right.
    async fn find(&self, key: &CodeKey) -> Result<Option<NativeCode>, LoadError> {
        let key = key.clone();
        self.on_disk(move |cache| cache.find(&key)).await
    }

    /// Compiles an artifact, in its turn.
    async fn compile(
        &self,
        key: &CodeKey,
        path: &Path,
        purpose: Purpose,
    ) -> Result<NativeCode, LoadError> {
        // Uploads that are not wasm are refused before they take a place in the line.
        let wasm = open_wasm(path)?;
        let claim = match purpose {
            Purpose::Deploy(uploader) => Claim::Deploy(uploader),
            Purpose::Invocation | Purpose::Background => Claim::Call,
        };
        let place = self.line.join(claim)?;
        if matches!(purpose, Purpose::Deploy(_)) {
            self.deploy_rate.admit(Instant::now())?;
        }
        let _turn = place.turn().await;
        let started = Instant::now();
        let result = self.compile_and_store(key, wasm).await;
        let fault = result.as_ref().err().map(LoadError::fault);
        self.metrics.compiled(started.elapsed(), fault);
        result
    }

    /// Compiles in a child process, which writes to a file of the cache; then seals that file.
    async fn compile_and_store(&self, key: &CodeKey, wasm: File) -> Result<NativeCode, LoadError> {
        let file =
            self.cache.temporary().map_err(LoadError::io("making a file for native code"))?;
        let output = file.reopen().map_err(LoadError::io("opening a file for native code"))?;
        let job = CompileJob {
            code: key.clone(),
            memory_bytes: self.config.memory_bytes,
            cpu_s: self.config.cpu_s,
            output_bytes: self.config.output_bytes,
            core_modules: self.config.core_modules,
            artifact: self.artifact,
        };
        let inspection = child::compile(&self.config, &job, wasm, output).await?;
        let most = self.code_bytes.load(Relaxed);
        let stored = self.on_disk(move |cache| {
            let code = cache.store(&job.code, inspection, file)?;
            let removed = cache.trim(most, &code);
            Ok((code, removed))
        });
        let (code, removed) = stored.await?.map_err(LoadError::io("keeping native code"))?;
        self.metrics.code_removed.inc_by(removed);
        Ok(code)
    }

    /// Makes native code that no invocation and no deploy waits for, when none of them waits for
    /// any other.
    pub(crate) async fn compile_in_background(
        self: &Arc<Self>,
        key: &CodeKey,
        path: &Path,
    ) -> Result<(), LoadError> {
        loop {
            while !self.line.is_idle() {
                time::sleep(BACKGROUND_CHECK).await;
            }
            match self.native_code(key, path, Purpose::Background).await {
                // Others have filled the queue since the check.
                Err(LoadError::CompilerBusy) => {}
                outcome => return outcome.map(drop),
            }
        }
    }

    /// Replaces native code whose snapshot turned out not to work by the plain native code.
    pub(crate) async fn without_snapshot(
        self: &Arc<Self>,
        key: &CodeKey,
        path: &Path,
        reason: String,
    ) -> Result<Arc<NativeCode>, LoadError> {
        let plain = CodeKey { digest: key.digest, start_up: None };
        let (plain, _) = self.native_code(&plain, path, Purpose::Invocation).await?;
        let snapshot = Some(SnapshotOutcome::NotTaken { reason });
        let inspection = Inspection { snapshot, ..plain.inspection.clone() };
        let wanted = key.clone();
        let stored = self.on_disk(move |cache| {
            let mut copy = cache.temporary()?;
            io::copy(&mut plain.verified_file()?, &mut copy)?;
            cache.store(&wanted, inspection, copy)
        });
        let code = Arc::new(stored.await?.map_err(LoadError::io("keeping native code"))?);
        self.verified.insert(key.clone(), Arc::clone(&code)).await;
        Ok(code)
    }

    /// The outcome of a snapshot, if it is known without taking one.
    pub(crate) async fn snapshot(&self, key: &CodeKey) -> Option<SnapshotOutcome> {
        if let Some(code) = self.verified.get(key).await {
            return code.inspection.snapshot.clone();
        }
        let key = key.clone();
        self.on_disk(move |cache| cache.inspection(&key)).await.ok()??.snapshot
    }

    /// Whether an active revision may lack native code, because another build ran here last.
    pub(crate) fn may_lack_code(&self) -> bool {
        !self.cache.is_complete()
    }

    /// Notes that there is native code of every active revision.
    pub(crate) async fn mark_code_complete(&self) -> Result<(), LoadError> {
        self.on_disk(CodeCache::set_complete)
            .await?
            .map_err(LoadError::io("noting that native code is complete"))
    }

    /// Those of `keys` that have native code on the disk.
    pub(crate) async fn stored(&self, keys: Vec<CodeKey>) -> Result<HashSet<CodeKey>, LoadError> {
        self.on_disk(|cache| keys.into_iter().filter(|key| cache.has(key)).collect()).await
    }

    /// Sets how many compilations deploys may begin within a minute.
    pub(crate) fn set_deploys_per_minute(&self, per_minute: usize) {
        self.deploy_rate.set(per_minute);
    }

    /// Sets the most bytes of native code on the disk. The next compilation removes what is too much.
    pub(crate) fn set_code_bytes(&self, most: u64) {
        self.code_bytes.store(most, Relaxed);
    }

    /// Whether native code is at hand, verified.
    pub(crate) fn has_verified(&self, key: &CodeKey) -> bool {
        self.verified.contains_key(key)
    }

    /// Forgets that native code was verified, so that the next use checks its file again.
    pub(crate) async fn invalidate(&self, key: &CodeKey) {
        self.verified.invalidate(key).await;
    }

    /// Removes an artifact's native code from the disk, with each of its snapshots.
    pub(crate) async fn remove(&self, digest: ArtifactDigest) {
        // Entries of its snapshots stay until a look-up finds that their files are gone.
        self.invalidate(&CodeKey { digest, start_up: None }).await;
        // The panic hook would log a panic in there, and what it leaves is an unused file.
        let _ = self.on_disk(move |cache| cache.remove(&digest)).await;
    }

    /// Removes the native code of old builds from the disk.
    pub(crate) async fn remove_old_builds(&self) -> Result<(), LoadError> {
        self.on_disk(CodeCache::remove_old_builds)
            .await?
            .map_err(LoadError::io("removing native code of old builds"))
    }

    /// Which barriers around the compile worker this machine has: starts one that tries them.
    pub(crate) async fn sandbox(&self) -> io::Result<Sandbox> {
        let sandbox = child::probe(&self.config).await?;
        for (kind, stands) in sandbox.barriers() {
            self.metrics.sandbox.with_label_values(&[kind]).set(stands.into());
        }
        Ok(sandbox)
    }

    /// Does blocking work on the cache, on a thread for that.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CodeCache) -> T + Send + 'static,
    ) -> Result<T, LoadError> {
        let cache = Arc::clone(&self.cache);
        spawn_blocking(move || work(&cache))
            .await
            .map_err(|panic| LoadError::io("handling native code")(io::Error::other(panic)))
    }
}

/// Whether an error may concern only another purpose. Deploys and invocations that want the same
/// code share one attempt, but the limits of deploys are not those of invocations, and a deploy brings
/// the file that an invocation found damaged or missing.
fn is_from_another_purpose(error: &LoadError, purpose: Purpose) -> bool {
    let is_deploy = matches!(purpose, Purpose::Deploy(_));
    match error {
        LoadError::CompileRate { .. } => !is_deploy,
        LoadError::Damaged | LoadError::Missing => is_deploy,
        // Asked again, one of the same purpose is refused again.
        LoadError::CompilerBusy => true,
        LoadError::Refused(_)
        // Not of the compiler.
        | LoadError::FilesDamaged
        | LoadError::NoSpace
        | LoadError::Io { .. }
        | LoadError::Engine { .. }
        | LoadError::AsyncEngineOff => false,
    }
}

/// Opens an artifact. Most uploads that are not wasm are recognised here, without a child.
fn open_wasm(path: &Path) -> Result<File, LoadError> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LoadError::Missing,
        _ => LoadError::io("opening the artifact")(error),
    })?;
    let mut start = Vec::new();
    (&mut file)
        .take(START_BYTES)
        .read_to_end(&mut start)
        .and_then(|_| file.seek(SeekFrom::Start(0)))
        .map_err(LoadError::io("reading the artifact"))?;
    if start.starts_with(b"\0asm") && start.len() >= 8 {
        return Ok(file);
    }
    Err(Refusal::NotWasm(looks_like(&start).into()).into())
}
