//! The scratch directory of a call: files in the host's memory, under `/tmp`.
//!
//! It exists only where the function's settings ask for it, belongs to one call, and never touches
//! the file system of the machine. `tree` holds the files, and one file for each version of WASI
//! gives guests access to them.

pub(super) mod component;
mod file;
mod path;
pub(super) mod preview1;
mod refused;
mod tree;
pub(super) mod wasi_02;
pub(super) mod wasi_03;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::{
    refused::Refused,
    tree::{ROOT, Tree, directory::NodeId, node::Open},
};
use crate::{host::invocation_state::InvocationState, limits::ScratchBudget};

/// Where guests see it.
const MOUNT: &str = "/tmp";
/// Bytes of one read of a component: those that the library reads at most.
const READ_BYTES: usize = 64 << 10;

/// The scratch directory of one store.
#[derive(Clone)]
pub(super) struct Scratch(Arc<Mutex<Tree>>);

/// An open file or directory. Its content lives as long as this does.
pub(super) struct Handle {
    scratch: Scratch,
    node: NodeId,
}

impl Scratch {
    pub(super) fn new(budget: Arc<ScratchBudget>, state: &Arc<InvocationState>) -> Self {
        Self(Arc::new(Mutex::new(Tree::new(budget, Arc::clone(state)))))
    }

    /// Assigns the directory to an invocation.
    pub(super) fn begin_invocation(&self, state: &Arc<InvocationState>) {
        self.tree().begin_invocation(Arc::clone(state));
    }

    /// Whether the guest has anything open but the directory itself.
    pub(super) fn is_open(&self) -> bool {
        self.tree().is_open()
    }

    /// Empties the directory for the next invocation. Nothing but the directory itself may be open.
    pub(super) fn clear(&self) {
        self.tree().clear();
    }

    /// The directory itself.
    fn root(&self) -> Handle {
        self.tree().hold(ROOT);
        Handle { scratch: self.clone(), node: ROOT }
    }

    /// The operations of a guest come one after the other, so that nothing waits here.
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// Opens what `path` names in this directory.
    fn open(&self, path: &str, how: Open) -> Result<Self, Refused> {
        let node = self.tree().open(self.node, path, how)?;
        Ok(Self { scratch: self.scratch.clone(), node })
    }

    /// At most `length` bytes from `offset` on, and none at the end of the file.
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Refused> {
        let mut bytes = vec![0; length.min(READ_BYTES)];
        let read = self.tree().read(self.node, offset, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.scratch.tree()
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.tree().hold(self.node);
        Self { scratch: self.scratch.clone(), node: self.node }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.tree().let_go(self.node);
    }
}
