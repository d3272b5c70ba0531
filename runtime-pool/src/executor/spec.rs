//! The specification of a function: what a revision asks for.

use std::{fmt, path::PathBuf, sync::Arc};

use crate::{
    code::{
        artifact::ArtifactDigest,
        key::{CodeKey, StartUp},
    },
    host::{capabilities::grants::Grants, files::mounted::blobs::BlobPath},
    limits::{Isolation, Limits},
    outbound::{Credential, Grant},
};

/// Everything that the pool needs to make a revision resident and to run it.
#[derive(Clone)]
pub struct FunctionSpec {
    /// The owner of the function, and of the secrets that its credentials name.
    pub tenant: Arc<str>,
    /// The function's name, unique within its tenant.
    pub name: Arc<str>,
    /// The digest of the artifact.
    pub digest: ArtifactDigest,
    /// Where the artifact is.
    pub artifact: PathBuf,
    /// The function's label in metrics, which distinguishes tenants and is chosen so that there are
    /// not too many.
    pub label: Arc<str>,
    /// The effective limits of its invocations.
    pub limits: Limits,
    /// Environment variables of its guests.
    pub environment: Vec<(String, String)>,
    /// The arguments of its guests, if they are programs. An empty list stands for those of the
    /// convention.
    pub arguments: Vec<String>,
    /// Whether its guests, if they are programs, read a body of unknown length while it arrives.
    pub stream_body: bool,
    /// The servers that its guests may call.
    pub outbound: Vec<Grant>,
    /// Secrets that the gateway adds to their requests.
    pub credentials: Vec<Credential>,
    /// The stores and the configuration that its guests get.
    pub capabilities: Option<Arc<Grants>>,
    /// The files that its guests can read.
    pub files: Option<Arc<FilesSpec>>,
    /// The isolation of its invocations.
    pub isolation: Isolation,
    /// The most instances that are kept warm.
    pub max_warm: usize,
    /// The export that is called once, at the deploy. Every instance then starts from the memory that
    /// it leaves.
    pub snapshot: Option<Arc<str>>,
}

/// A tree of files that guests can read.
#[derive(Clone)]
pub struct FilesSpec {
    /// The digest of its list, which is stored like its files.
    pub tree: [u8; 32],
    /// The path of the directory at which guests see it.
    pub at: Arc<str>,
    /// Where the file with a digest is.
    pub blob_path: BlobPath,
}

impl fmt::Debug for FilesSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = self.blob_path.of(&self.tree);
        f.debug_struct("FilesSpec").field("list", &list).field("at", &self.at).finish()
    }
}

/// Shows the names of the environment's variables without their values, which may be secret.
impl fmt::Debug for FunctionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&str> = self.environment.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("FunctionSpec")
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .field("digest", &self.digest)
            .field("artifact", &self.artifact)
            .field("limits", &self.limits)
            .field("environment", &variables)
            .field("files", &self.files)
            .field("outbound", &self.outbound)
            .field("credentials", &self.credentials)
            .field("capabilities", &self.capabilities)
            .field("isolation", &self.isolation)
            .field("max_warm", &self.max_warm)
            .field("snapshot", &self.snapshot)
            .finish_non_exhaustive()
    }
}

impl FunctionSpec {
    /// Whether its guests have any files: their own, or a scratch directory.
    pub(crate) fn has_files(&self) -> bool {
        self.files.is_some() || self.limits.scratch_bytes > 0
    }

    /// The key of the native code that it needs.
    pub(crate) fn code_key(&self) -> CodeKey {
        let memory_bytes = self.limits.memory_bytes as u64;
        let start_up =
            |function: &Arc<str>| StartUp { function: Arc::clone(function), memory_bytes };
        CodeKey { digest: self.digest, start_up: self.snapshot.as_ref().map(start_up) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_names_the_environment_without_its_values() {
        let spec = FunctionSpec {
            tenant: "default".into(),
            name: "f".into(),
            digest: ArtifactDigest([0; 32]),
            artifact: PathBuf::new(),
            label: "f".into(),
            limits: Limits::default(),
            environment: vec![("PASSWORD".to_owned(), "hunter2".to_owned())],
            arguments: Vec::new(),
            stream_body: false,
            outbound: Vec::new(),
            credentials: Vec::new(),
            capabilities: None,
            files: None,
            isolation: Isolation::Request,
            max_warm: 0,
            snapshot: None,
        };
        let shown = format!("{spec:?}");
        assert!(shown.contains("PASSWORD") && !shown.contains("hunter2"), "{shown}");
    }
}
