//! How do uploaded bytes become native code that can be trusted?
//!
//! `compiler` finds native code in the sealed `cache`, or starts a child process that makes it.
//! `job` is what the two processes say to each other. The child is `worker`: behind the barriers of
//! `sandbox` it runs `inspect`, takes a `snapshot` if the owner has asked for one, and compiles.

pub(crate) mod artifact;
pub(crate) mod builds;
pub(crate) mod cache;
pub(crate) mod compiler;
pub(crate) mod core_module;
pub(crate) mod describe;
pub(crate) mod inspect;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod quota;
pub(crate) mod requirements;
pub(crate) mod sandbox;
pub(crate) mod snapshot;
pub(crate) mod worker;
