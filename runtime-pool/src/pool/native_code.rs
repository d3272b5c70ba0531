//! Operations of the pool on native code: compiling it in advance, and removing it.

use std::{collections::HashSet, io};

use crate::{
    ArtifactDigest, Pool,
    code::{compiler::Purpose, inspect::Inspection, sandbox::Sandbox, snapshot::SnapshotOutcome},
    error::{LoadError, Refusal},
    executor::spec::FunctionSpec,
};

impl Pool {
    /// Sets how many compilations deploys may begin within a minute.
    pub fn set_deploys_per_minute(&self, most: usize) {
        self.loader.compiler.set_deploys_per_minute(most);
    }

    /// Sets the most bytes of native code on the disk.
    pub fn set_code_bytes(&self, most: u64) {
        self.loader.compiler.set_code_bytes(most);
    }

    /// Which parts of the sandbox around the compiler work on this machine. Starts a compiler to find
    /// out.
    pub async fn sandbox(&self) -> io::Result<Sandbox> {
        self.loader.compiler.sandbox().await
    }

    /// What the artifact of `spec` imports and exports. Compiles it if its native code was lost.
    pub async fn inspection(&self, spec: &FunctionSpec) -> Result<Inspection, LoadError> {
        let compiler = &self.loader.compiler;
        let found =
            compiler.native_code(&spec.code_key(), &spec.artifact, Purpose::Invocation).await;
        found.map(|(native, _)| native.inspection.clone())
    }

    /// The outcome of the snapshot that `spec` asks for. `None` if it asks for none, or if none has
    /// been taken since the native code was last lost.
    pub async fn snapshot(&self, spec: &FunctionSpec) -> Option<SnapshotOutcome> {
        self.loader.snapshot(spec).await
    }

    /// Returns those of `specs` that have no native code, one of each that would have the same. Reads no
    /// file unless another build of the gateway filled the cache last.
    pub async fn missing_code(
        &self,
        mut specs: Vec<FunctionSpec>,
    ) -> Result<Vec<FunctionSpec>, LoadError> {
        let compiler = &self.loader.compiler;
        if !compiler.may_lack_code() {
            return Ok(Vec::new());
        }
        let keys = specs.iter().map(FunctionSpec::code_key).collect();
        let on_disk = compiler.stored(keys).await?;
        let mut found = HashSet::new();
        specs.retain(|spec| {
            let key = spec.code_key();
            !on_disk.contains(&key) && found.insert(key)
        });
        Ok(specs)
    }

    /// Compiles a function in advance, while no other compilation waits.
    pub async fn compile_in_background(&self, spec: &FunctionSpec) -> Result<(), LoadError> {
        let compiler = &self.loader.compiler;
        match compiler.compile_in_background(&spec.code_key(), &spec.artifact).await {
            // The same fallback as when a function is loaded.
            Err(LoadError::Refused(Refusal::StartUp(reason))) => {
                self.loader.compile_without_snapshot(spec, reason).await
            }
            outcome => outcome,
        }
    }

    /// Records that every active function has native code, so that the next start of this build need
    /// not look for it.
    pub async fn mark_code_complete(&self) -> Result<(), LoadError> {
        if self.loader.compiler.may_lack_code() {
            self.loader.compiler.mark_code_complete().await
        } else {
            Ok(())
        }
    }

    /// Removes the native code of old builds, except that of the previous one.
    pub async fn forget_old_builds(&self) -> Result<(), LoadError> {
        self.loader.compiler.remove_old_builds().await
    }

    /// Removes the native code of an artifact that no revision refers to.
    pub async fn forget_artifact(&self, digest: ArtifactDigest) {
        self.loader.compiler.remove(digest).await;
    }
}
