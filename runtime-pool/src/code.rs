//! How do uploaded bytes become native code that can be trusted?
//!
//! Inspection, compilation in a sandboxed child process, the sealed cache of native code, and
//! snapshots of start-up.

pub(crate) mod artifact;
pub(crate) mod builds;
pub(crate) mod cache;
pub(crate) mod compiler;
pub(crate) mod inspect;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod requirements;
pub(crate) mod sandbox;
pub(crate) mod snapshot;
pub(crate) mod worker;
