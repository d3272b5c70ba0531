//! How does a specification become a resident function?
//!
//! The steps from the outside in: `load_published` and `load` fall back to code without a snapshot,
//! `load_once` assembles the function, `find_and_link` recompiles code that does not load, and
//! `try_find_and_link` finds native code, or compiles it, verifies it and links it.

use std::{sync::Arc, time::Instant};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
};

use crate::{
    code::{
        cache::NativeCode,
        compiler::{Compiler, Purpose},
        inspect::Inspection,
        key::CodeKey,
        snapshot::SnapshotOutcome,
    },
    error::{InvokeError, LoadError, Refusal},
    executor::spec::FunctionSpec,
    host::instance::PreInstance,
    metrics::{
        guest_log::FunctionKey,
        start::{Phase, Phases, Tier},
    },
    pool::{
        function::Function,
        linker::Linkers,
        node::{LoadedParts, NodeShared},
    },
};

/// Native code up to this size is mapped by the thread that needs it. That takes a few hundred
/// microseconds; waking another thread for it, and this one afterwards, takes half as long again.
const INLINE_BYTES: u64 = 1 << 20;

/// Makes functions resident.
pub(super) struct Loader {
    pub(super) compiler: Arc<Compiler>,
    linkers: Arc<Linkers>,
    permits: Semaphore,
}

/// A loaded function, what the inspection found in it, and how long loading took.
pub(super) struct Loaded {
    pub(super) function: Arc<Function>,
    pub(super) inspection: Inspection,
    pub(super) phases: Phases,
}

/// Native code whose imports are resolved.
struct Linked {
    native: Arc<NativeCode>,
    code: PreInstance,
    tier: Tier,
}

impl Loader {
    /// At most `loads` functions are linked at once.
    pub(super) fn new(compiler: Compiler, linkers: Linkers, loads: usize) -> Self {
        Self {
            compiler: Arc::new(compiler),
            linkers: Arc::new(linkers),
            permits: Semaphore::new(loads),
        }
    }

    /// Loads a published revision. If it has a snapshot, then that could be taken at the deploy.
    pub(super) async fn load_published(
        &self,
        node: &NodeShared,
        key: FunctionKey,
        spec: &FunctionSpec,
    ) -> Result<Loaded, LoadError> {
        // Boxed: the futures of loading are large, and loading is rare.
        match Box::pin(self.load(node, key, spec, Purpose::Invocation)).await {
            // Since the deploy a limit has become tighter, or the machine is too busy. A slow start
            // is better than none.
            Err(LoadError::Refused(Refusal::StartUp(reason))) => {
                self.compile_without_snapshot(spec, reason).await?;
                Box::pin(self.load(node, key, spec, Purpose::Invocation)).await
            }
            loaded => loaded,
        }
    }

    /// Loads a revision. A snapshot is a rewritten binary: if it does not work, then the owner is
    /// not at fault, and the function is loaded without it.
    pub(super) async fn load(
        &self,
        node: &NodeShared,
        key: FunctionKey,
        spec: &FunctionSpec,
        purpose: Purpose,
    ) -> Result<Loaded, LoadError> {
        let loaded = Box::pin(self.load_once(node, key, spec, purpose)).await;
        let Some(reason) = self.snapshot_fault(spec, &loaded).await else { return loaded };
        // The memory of the first is free before the second is loaded.
        drop(loaded);
        let reason = format!("instances cannot start from it: {reason}");
        self.compile_without_snapshot(spec, reason).await?;
        Box::pin(self.load_once(node, key, spec, purpose)).await
    }

    /// The outcome of the snapshot that `spec` asks for. `None` if it asks for none, or if none has
    /// been taken since the native code was last lost.
    pub(super) async fn snapshot(&self, spec: &FunctionSpec) -> Option<SnapshotOutcome> {
        spec.snapshot.as_ref()?;
        self.compiler.snapshot(&spec.code_key()).await
    }

    /// Compiles a function without the snapshot that it asks for, and records the reason.
    pub(super) async fn compile_without_snapshot(
        &self,
        spec: &FunctionSpec,
        reason: String,
    ) -> Result<(), LoadError> {
        tracing::warn!(reason, "a function is loaded without its snapshot");
        self.compiler.without_snapshot(&spec.code_key(), &spec.artifact, reason).await.map(drop)
    }

    /// Why the function's snapshot does not work. `None` if it works, if there is none, or if loading
    /// has failed for another reason.
    async fn snapshot_fault(
        &self,
        spec: &FunctionSpec,
        loaded: &Result<Loaded, LoadError>,
    ) -> Option<String> {
        spec.snapshot.as_ref()?;
        match loaded {
            Ok(loaded) => loaded.try_snapshot().await.err().map(|error| error.to_string()),
            Err(error @ (LoadError::Engine { .. } | LoadError::Refused(Refusal::Start(_)))) => {
                let taken =
                    matches!(self.snapshot(spec).await, Some(SnapshotOutcome::Taken { .. }));
                taken.then(|| error.to_string())
            }
            Err(_) => None,
        }
    }

    async fn load_once(
        &self,
        node: &NodeShared,
        key: FunctionKey,
        spec: &FunctionSpec,
        purpose: Purpose,
    ) -> Result<Loaded, LoadError> {
        let started = Instant::now();
        let mut phases = Phases::default();
        let linked = self.find_and_link(spec, purpose, &mut phases).await?;
        let Linked { native, code, tier } = linked;
        let files = match &spec.files {
            Some(files) => Some(node.trees.load(files).await?),
            None => None,
        };
        let parts = LoadedParts { code, files, code_bytes: native.bytes, origin: tier };
        let function = node.function(key, spec.clone(), parts);
        let took = started.elapsed().as_secs_f64();
        node.metrics.load_seconds.with_label_values(&[tier.as_str()]).observe(took);
        let inspection = native.inspection.clone();
        Ok(Loaded { function: Arc::new(function), inspection, phases })
    }

    /// Links native code. Recompiles it once if the file on disk does not load.
    async fn find_and_link(
        &self,
        spec: &FunctionSpec,
        purpose: Purpose,
        phases: &mut Phases,
    ) -> Result<Linked, LoadError> {
        let key = spec.code_key();
        let was_known = self.compiler.has_verified(&key);
        match self.try_find_and_link(&key, spec, purpose, phases).await {
            // The file may have been damaged or removed after it was verified: verify it again.
            Err(LoadError::Engine { .. }) if was_known => {
                self.compiler.invalidate(&key).await;
                self.try_find_and_link(&key, spec, purpose, phases).await
            }
            linked => linked,
        }
    }

    async fn try_find_and_link(
        &self,
        key: &CodeKey,
        spec: &FunctionSpec,
        purpose: Purpose,
        phases: &mut Phases,
    ) -> Result<Linked, LoadError> {
        let since = Instant::now();
        let (native, tier) = self.compiler.native_code(key, &spec.artifact, purpose).await?;
        // The time to verify code from the disk counts as loading.
        let phase = if tier == Tier::Frozen { Phase::Compile } else { Phase::Load };
        phases.add(phase, since.elapsed());
        // Taken only here: a load that waits for a compiler must not block other loads.
        let _permit = self.permit(phases).await;
        let code = self.link(&native, spec.has_files(), phases).await?;
        Ok(Linked { native, code, tier })
    }

    /// Waits for the permit to link one function.
    async fn permit(&self, phases: &mut Phases) -> SemaphorePermit<'_> {
        if let Ok(permit) = self.permits.try_acquire() {
            return permit;
        }
        let since = Instant::now();
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        phases.add(Phase::Queue, since.elapsed());
        permit
    }

    async fn link(
        &self,
        native: &Arc<NativeCode>,
        files: bool,
        phases: &mut Phases,
    ) -> Result<PreInstance, LoadError> {
        if native.bytes <= INLINE_BYTES {
            return self.linkers.link(native, files, phases);
        }
        let (linkers, native, mut linked_phases) =
            (Arc::clone(&self.linkers), Arc::clone(native), *phases);
        let linking = spawn_blocking(move || {
            let linked = linkers.link(&native, files, &mut linked_phases)?;
            Ok::<_, LoadError>((linked, linked_phases))
        });
        let (linked, linked_phases) = linking.await.map_err(|error| LoadError::Engine {
            what: "linking a function",
            detail: error.to_string(),
        })??;
        *phases = linked_phases;
        Ok(linked)
    }
}

impl Loaded {
    /// Makes an instance if the snapshot has just been taken: nothing has started from it before.
    async fn try_snapshot(&self) -> Result<(), InvokeError> {
        let taken = matches!(self.inspection.snapshot, Some(SnapshotOutcome::Taken { .. }));
        if !taken || self.function.statistics.origin != Tier::Frozen {
            return Ok(());
        }
        match self.function.template.instantiate_ahead().await.0 {
            // A full node says nothing about the snapshot.
            Ok(_) | Err(InvokeError::Instances | InvokeError::NodeMemory) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
