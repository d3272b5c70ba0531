//! What a function is: everything that a revision asks for.

use std::{path::PathBuf, sync::Arc};

use crate::{
    code::{
        artifact::ArtifactDigest,
        key::{CodeKey, StartUp},
    },
    limits::{Isolation, Limits},
    outbound::{Credential, Grant},
};

/// What a revision is made of: everything the pool needs to make it resident.
#[derive(Clone, Debug)]
pub struct FunctionSpec {
    /// The owner of the function, and of the secrets that its credentials name.
    pub tenant: Arc<str>,
    /// Names the artifact.
    pub digest: ArtifactDigest,
    /// Where the artifact is.
    pub artifact: PathBuf,
    /// The function's label in metrics, which distinguishes tenants and is chosen so that there are
    /// not too many.
    pub label: Arc<str>,
    /// What holds for its invocations.
    pub limits: Limits,
    /// Environment variables of its guests.
    pub environment: Vec<(String, String)>,
    /// What its guests may call.
    pub outbound: Vec<Grant>,
    /// Secrets that are put into their requests.
    pub credentials: Vec<Credential>,
    /// What its invocations share.
    pub isolation: Isolation,
    /// Instances that may wait for a call.
    pub max_warm: usize,
    /// The export that is called once, at the deploy, so that every instance starts from what it
    /// leaves.
    pub snapshot: Option<Arc<str>>,
}

impl FunctionSpec {
    /// The native code that it needs.
    pub(crate) fn code_key(&self) -> CodeKey {
        let memory_bytes = self.limits.memory_bytes as u64;
        let start_up =
            |function: &Arc<str>| StartUp { function: Arc::clone(function), memory_bytes };
        CodeKey { digest: self.digest, start_up: self.snapshot.as_ref().map(start_up) }
    }
}
