//! What is known about one file or directory.

use super::{super::file::FileContent, directory::DirectoryContent};
use crate::host::files::node::{NodeId, Times, now};

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
