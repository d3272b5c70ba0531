//! The scratch directory of a call: files in the host's memory, under `/tmp`.
//!
//! It exists only where the function's settings ask for it, belongs to one call, and never touches
//! the file system of the machine. `tree` holds the files, and one file for each version of WASI
//! gives guests access to them.

mod file;
mod path;
pub(super) mod preview1;
mod refused;
mod tree;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::{
    refused::Refused,
    tree::{Open, ROOT, Tree, directory::NodeId},
};
use crate::{host::invocation_state::InvocationState, limits::ScratchBudget};

/// Where guests see it.
const MOUNT: &str = "/tmp";

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

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.scratch.tree()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.tree().let_go(self.node);
    }
}
