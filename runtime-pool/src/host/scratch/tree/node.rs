//! What is known about one file or directory.

use std::time::Duration;

use wasmtime_wasi::HostWallClock as _;

use super::directory::{DirectoryContent, NodeId};
use crate::host::{scratch::file::FileContent, wasi::clock::GuestWallClock};

/// A file or a directory.
pub(super) struct Node {
    pub(super) body: NodeBody,
    /// The directory that lists it. `None` once it is removed, and for the root.
    pub(super) parent: Option<NodeId>,
    /// How often it is open.
    pub(super) handles: usize,
    pub(super) times: Times,
}

/// What is in it.
pub(super) enum NodeBody {
    File(FileContent),
    Directory(DirectoryContent),
}

/// Times since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host::scratch) struct Times {
    pub(in crate::host::scratch) accessed: Duration,
    pub(in crate::host::scratch) modified: Duration,
    pub(in crate::host::scratch) changed: Duration,
}

/// How something is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::host::scratch) struct Open {
    pub(in crate::host::scratch) create: bool,
    pub(in crate::host::scratch) exclusive: bool,
    pub(in crate::host::scratch) truncate: bool,
    /// Only a directory will do.
    pub(in crate::host::scratch) directory: bool,
    pub(in crate::host::scratch) write: bool,
}

/// What is known about a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host::scratch) struct Stat {
    pub(in crate::host::scratch) node: NodeId,
    pub(in crate::host::scratch) is_directory: bool,
    pub(in crate::host::scratch) size: u64,
    pub(in crate::host::scratch) links: u64,
    pub(in crate::host::scratch) times: Times,
}

impl Node {
    pub(super) fn new(body: NodeBody, parent: Option<NodeId>) -> Self {
        let now = now();
        let times = Times { accessed: now, modified: now, changed: now };
        Self { body, parent, handles: 0, times }
    }

    pub(super) fn touch(&mut self) {
        self.times.modified = now();
        self.times.changed = self.times.modified;
    }
}

/// The time that the guest sees.
pub(in crate::host::scratch) fn now() -> Duration {
    GuestWallClock.now()
}
