//! The files of a guest: its scratch directory, and the files that its function was given.
//!
//! Both exist only where the function's settings ask for them, and neither lets a guest name anything in
//! the file system of the machine. `scratch` is a directory in memory, of one call; `mounted` is a tree
//! that cannot be changed, which all calls of a function read. One file for each version of WASI gives
//! guests access to both.

pub(super) mod component;
mod handle;
pub(crate) mod mounted;
mod node;
mod path;
pub(super) mod preview1;
mod refused;
pub(super) mod scratch;
pub(super) mod wasi_02;
pub(super) mod wasi_03;

/// Bytes of one read of a component: those that the library reads at most.
const READ_BYTES: usize = 64 << 10;
