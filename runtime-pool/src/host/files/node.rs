//! What guests are told of a file or a directory, and how they ask for one.

use std::{pin::Pin, time::Duration};

use wasmtime_wasi::HostWallClock as _;

use crate::host::{files::refused::PosixRefusal, wasi::clock::GuestWallClock};

/// A file or a directory. Unique among those that exist on one device.
pub(super) type NodeId = u32;

/// The directory that guests begin in.
pub(super) const ROOT: NodeId = 0;

/// Times since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) accessed: Duration,
    pub(super) modified: Duration,
    pub(super) changed: Duration,
}

/// The times of files that never change: those of the machine would tell when they were last read.
pub(super) const FIXED_TIMES: Times =
    Times { accessed: Duration::ZERO, modified: Duration::ZERO, changed: Duration::ZERO };

/// How something is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Open {
    pub(super) create: bool,
    pub(super) exclusive: bool,
    pub(super) truncate: bool,
    /// Only a directory will do.
    pub(super) directory: bool,
    pub(super) write: bool,
}

/// What is known about a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) device: u64,
    pub(super) node: NodeId,
    pub(super) is_directory: bool,
    pub(super) size: u64,
    pub(super) links: u64,
    pub(super) times: Times,
}

/// An entry of a directory, with the place at which it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct DirEntry<'a> {
    pub(super) place: u64,
    pub(super) name: &'a str,
    pub(super) node: NodeId,
    pub(super) is_directory: bool,
}

/// A read that waits for the disk.
pub(super) type Fetch = Pin<Box<dyn Future<Output = Result<Vec<u8>, PosixRefusal>> + Send>>;

/// The time that the guest sees.
pub(super) fn now() -> Duration {
    GuestWallClock.now()
}
