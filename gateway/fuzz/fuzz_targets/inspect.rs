//! The inspection of an upload: its kind, or the reason why it cannot be a function.

#![no_main]

use libfuzzer_sys::fuzz_target;

// The files of the product that the check consists of.
#[path = "../../../runtime-pool/src/code/artifact.rs"]
#[allow(dead_code, reason = "only the kinds are used here")]
mod artifact;
#[path = "../../../runtime-pool/src/limits/artifact.rs"]
mod artifact_limits;
#[path = "../../../runtime-pool/src/error.rs"]
#[allow(dead_code, reason = "only refusals are used here")]
mod error;
#[path = "../../../runtime-pool/src/code/inspect.rs"]
#[allow(dead_code, reason = "only the check itself is used here")]
mod inspect;
#[path = "../../../runtime-pool/src/host/capabilities/interfaces/names.rs"]
#[allow(dead_code, reason = "only the check whether a name is served is used here")]
mod names;
#[path = "../../../runtime-pool/src/code/snapshot/outcome.rs"]
#[allow(dead_code, reason = "the check never takes a snapshot")]
mod snapshot;
/// Where the files of the product find each other.
mod code {
    pub(crate) use crate::{artifact, snapshot};
}
mod host {
    pub(crate) mod capabilities {
        pub(crate) mod interfaces {
            pub(crate) use crate::names;
        }
    }
}
mod limits {
    pub(crate) use crate::artifact_limits::ArtifactLimits;
}

fuzz_target!(|data: &[u8]| {
    match inspect::inspect(data, &limits::ArtifactLimits::default()) {
        Ok(inspection) => {
            assert!(data.starts_with(b"\0asm"));
            assert!(!inspection.exports.is_empty());
        }
        // The refusal's text is for the owner: it must not be empty.
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
});
