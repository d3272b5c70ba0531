//! The `wasi:http` 0.3 test guests, one file each under `examples/`.

/// Shared with the guests for 0.2: the module depends on neither version.
#[path = "../../http/src/plan.rs"]
pub mod plan;
