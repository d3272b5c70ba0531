//! The pool's native code on disk, and how it is made.

use std::io;

use crate::{
    ArtifactDigest, Pool,
    code::{sandbox::Sandbox, snapshot::SnapshotOutcome},
    error::{LoadError, Refusal},
    executor::spec::FunctionSpec,
};

impl Pool {
    /// Lets deploys begin so many compilations within a minute from here on.
    pub fn set_deploys_per_minute(&self, most: usize) {
        self.loader.compiler.set_deploys_per_minute(most);
    }

    /// Which barriers stand around the compiler on this machine. Starts one to find out.
    pub async fn sandbox(&self) -> io::Result<Sandbox> {
        self.loader.compiler.sandbox().await
    }

    /// What became of the snapshot that `spec` asks for; `None` if it asks for none, or none was
    /// tried since the native code was last lost.
    pub async fn snapshot(&self, spec: &FunctionSpec) -> Option<SnapshotOutcome> {
        self.loader.snapshot(spec).await
    }

    /// Those of `specs` that have no native code, after a start of another build than the last
    /// one. Looks at no file if it is the same.
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
        specs.retain(|spec| !on_disk.contains(&spec.code_key()));
        Ok(specs)
    }

    /// Makes native code that nobody waits for, when nobody waits for any other.
    pub async fn compile_in_background(&self, spec: &FunctionSpec) -> Result<(), LoadError> {
        let compiler = &self.loader.compiler;
        match compiler.compile_in_background(&spec.code_key(), &spec.artifact).await {
            // As when it is loaded.
            Err(LoadError::Refused(Refusal::StartUp(reason))) => {
                self.loader.compile_without_snapshot(spec, reason).await
            }
            outcome => outcome,
        }
    }

    /// Notes that there is native code of all that is active: the next start of this build need not
    /// look for it.
    pub async fn mark_code_complete(&self) -> Result<(), LoadError> {
        if self.loader.compiler.may_lack_code() {
            self.loader.compiler.mark_code_complete().await
        } else {
            Ok(())
        }
    }

    /// Removes the native code of old builds. That of the one before this stays.
    pub async fn forget_old_builds(&self) -> Result<(), LoadError> {
        self.loader.compiler.remove_old_builds().await
    }

    /// Removes the native code of an artifact that no revision refers to.
    pub async fn forget_artifact(&self, digest: ArtifactDigest) {
        self.loader.compiler.remove(digest).await;
    }
}
