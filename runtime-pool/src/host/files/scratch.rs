//! The scratch directory of a call: files in the host's memory, under `/tmp`.
//!
//! It exists only where the function's settings ask for it, belongs to one call, and never touches
//! the file system of the machine. `tree` holds the files.

mod file;
mod tree;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use self::tree::Tree;
use super::{
    node::{DirEntry, NodeId, Open, ROOT, Stat},
    refused::PosixRefusal,
};
use crate::{host::invocation_state::InvocationState, limits::ScratchBudget};

/// Where guests see it.
const MOUNT: &str = "/tmp";

/// The scratch directory of one store.
#[derive(Clone)]
pub(in crate::host) struct Scratch(Arc<Mutex<Tree>>);

/// An open file or directory. Its content lives as long as this does.
pub(super) struct ScratchHandle {
    scratch: Scratch,
    node: NodeId,
}

impl Scratch {
    pub(in crate::host) fn new(budget: Arc<ScratchBudget>, state: &Arc<InvocationState>) -> Self {
        Self(Arc::new(Mutex::new(Tree::new(budget, Arc::clone(state)))))
    }

    /// Assigns the directory to an invocation.
    pub(in crate::host) fn begin_invocation(&self, state: &Arc<InvocationState>) {
        self.tree().begin_invocation(Arc::clone(state));
    }

    /// Whether the guest has anything open but the directory itself.
    pub(in crate::host) fn is_open(&self) -> bool {
        self.tree().is_open()
    }

    /// Empties the directory for the next invocation. Nothing but the directory itself may be open.
    pub(in crate::host) fn clear(&self) {
        self.tree().clear();
    }

    /// The directory itself.
    pub(super) fn root(&self) -> ScratchHandle {
        self.tree().hold(ROOT);
        ScratchHandle { scratch: self.clone(), node: ROOT }
    }

    /// The operations of a guest come one after the other, so that nothing waits here.
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScratchHandle {
    pub(super) fn is_root(&self) -> bool {
        self.node == ROOT
    }

    pub(super) fn mount(&self) -> &str {
        MOUNT
    }

    pub(super) fn open(&self, path: &str, how: Open) -> Result<Self, PosixRefusal> {
        let node = self.tree().open(self.node, path, how)?;
        Ok(Self { scratch: self.scratch.clone(), node })
    }

    pub(super) fn stat(&self) -> Stat {
        self.tree().stat(self.node)
    }

    pub(super) fn stat_at(&self, path: &str) -> Result<Stat, PosixRefusal> {
        self.tree().stat_at(self.node, path)
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, PosixRefusal> {
        self.tree().read(self.node, offset, buffer)
    }

    pub(super) fn write(
        &self,
        offset: Option<u64>,
        data: &[u8],
    ) -> Result<(usize, u64), PosixRefusal> {
        self.tree().write(self.node, offset, data)
    }

    pub(super) fn room(&self, offset: Option<u64>) -> usize {
        self.tree().room(self.node, offset)
    }

    pub(super) fn set_size(&self, size: u64) -> Result<(), PosixRefusal> {
        self.tree().set_size(self.node, size)
    }

    pub(super) fn set_times(
        &self,
        path: Option<&str>,
        accessed: Option<Duration>,
        modified: Option<Duration>,
    ) -> Result<(), PosixRefusal> {
        let mut tree = self.tree();
        let node = match path {
            Some(path) => tree.find(self.node, path)?,
            None => self.node,
        };
        tree.set_times(node, accessed, modified);
        Ok(())
    }

    pub(super) fn create_directory(&self, path: &str) -> Result<(), PosixRefusal> {
        self.tree().create_directory(self.node, path)
    }

    pub(super) fn remove_directory(&self, path: &str) -> Result<(), PosixRefusal> {
        self.tree().remove_directory(self.node, path)
    }

    pub(super) fn remove_file(&self, path: &str) -> Result<(), PosixRefusal> {
        self.tree().remove_file(self.node, path)
    }

    /// Moves an entry within the same scratch directory.
    pub(super) fn rename(&self, path: &str, to: &Self, to_path: &str) -> Result<(), PosixRefusal> {
        self.tree().rename((self.node, path), (to.node, to_path))
    }

    pub(super) fn entries(
        &self,
        from: u64,
        mut each: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), PosixRefusal> {
        let tree = self.tree();
        for (place, name, node, is_directory) in tree.entries(self.node, from)? {
            if !each(DirEntry { place, name, node, is_directory }) {
                break;
            }
        }
        Ok(())
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.scratch.tree()
    }
}

impl Clone for ScratchHandle {
    fn clone(&self) -> Self {
        self.tree().hold(self.node);
        Self { scratch: self.scratch.clone(), node: self.node }
    }
}

impl Drop for ScratchHandle {
    fn drop(&mut self) {
        self.tree().let_go(self.node);
    }
}
