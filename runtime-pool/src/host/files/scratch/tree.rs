//! The files and directories of a scratch directory.
//!
//! A directory entry takes [`ENTRY_BYTES`], and a file its pages. Both count until the entry is gone
//! and the last handle is closed, as on any Unix.

pub(super) mod directory;
pub(super) mod node;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use self::{
    directory::DirectoryContent,
    node::{Node, NodeBody},
};
use super::file::FileContent;
use crate::{
    host::{
        files::{
            node::{NodeId, Open, ROOT, Stat, now},
            path,
            refused::PosixRefusal,
        },
        invocation_state::InvocationState,
    },
    limits::ScratchBudget,
};

/// What an entry takes besides the pages of its file: more than its node, its name and its place in
/// the directory have, so that the number of entries is limited, too.
const ENTRY_BYTES: usize = 1 << 10;

/// The number of the device that guests see.
const DEVICE: u64 = 1;

/// All files and directories.
pub(super) struct Tree {
    nodes: Vec<Option<Node>>,
    free: Vec<NodeId>,
    /// Handles to anything but the root.
    handles: usize,
    budget: Arc<ScratchBudget>,
    /// The invocation that is told of refusals.
    state: Arc<InvocationState>,
}

/// What a path names.
enum Target<'a> {
    /// An entry of a directory, which may not exist.
    Entry { parent: NodeId, name: &'a str, must_be_directory: bool },
    /// A directory by another name than its entry: `.`, `a/..`.
    Directory(NodeId),
}

impl Tree {
    pub(super) fn new(budget: Arc<ScratchBudget>, state: Arc<InvocationState>) -> Self {
        let root = Node::new(NodeBody::Directory(DirectoryContent::default()), None);
        Self { nodes: vec![Some(root)], free: Vec::new(), handles: 0, budget, state }
    }

    /// Assigns the directory to an invocation.
    pub(super) fn begin_invocation(&mut self, state: Arc<InvocationState>) {
        self.state = state;
    }

    /// Whether anything but the root is open.
    pub(super) fn is_open(&self) -> bool {
        self.handles > 0
    }

    /// Removes everything but the root, while nothing else is open.
    pub(super) fn clear(&mut self) {
        assert!(!self.is_open(), "what is open was looked at before");
        let root_handles = self.node(ROOT).handles;
        self.budget.give_back(self.budget.used());
        *self = Self::new(Arc::clone(&self.budget), Arc::clone(&self.state));
        self.node_mut(ROOT).handles = root_handles;
    }

    /// Opens what `path` names, relative to the directory `base`.
    pub(super) fn open(
        &mut self,
        base: NodeId,
        path: &str,
        how: Open,
    ) -> Result<NodeId, PosixRefusal> {
        let found = match self.walk(base, path)? {
            Target::Directory(id) => Some(id),
            Target::Entry { parent, name, must_be_directory } => {
                match self.directory(parent)?.get(name) {
                    Some(id) if must_be_directory && !self.is_directory(id) => {
                        return Err(PosixRefusal::NotDirectory);
                    }
                    None if how.create => {
                        if must_be_directory || how.directory {
                            return Err(PosixRefusal::Invalid);
                        }
                        let id =
                            self.insert(parent, name, NodeBody::File(FileContent::default()))?;
                        self.hold(id);
                        return Ok(id);
                    }
                    found => found,
                }
            }
        };
        let id = found.ok_or(PosixRefusal::NoEntry)?;
        if how.create && how.exclusive {
            return Err(PosixRefusal::Exists);
        }
        match self.is_directory(id) {
            true if how.create || how.write || how.truncate => {
                return Err(PosixRefusal::IsDirectory);
            }
            false if how.directory => return Err(PosixRefusal::NotDirectory),
            false if how.truncate => self.set_size(id, 0)?,
            _ => {}
        }
        self.hold(id);
        Ok(id)
    }

    /// Counts a handle.
    pub(super) fn hold(&mut self, id: NodeId) {
        self.node_mut(id).handles += 1;
        self.handles += usize::from(id != ROOT);
    }

    /// Closes a handle.
    pub(super) fn let_go(&mut self, id: NodeId) {
        self.node_mut(id).handles -= 1;
        self.handles -= usize::from(id != ROOT);
        self.remove_if_unused(id);
    }

    pub(super) fn create_directory(
        &mut self,
        base: NodeId,
        path: &str,
    ) -> Result<(), PosixRefusal> {
        let Target::Entry { parent, name, .. } = self.walk(base, path)? else {
            return Err(PosixRefusal::Exists);
        };
        if self.directory(parent)?.get(name).is_some() {
            return Err(PosixRefusal::Exists);
        }
        self.insert(parent, name, NodeBody::Directory(DirectoryContent::default()))?;
        Ok(())
    }

    pub(super) fn remove_directory(
        &mut self,
        base: NodeId,
        path: &str,
    ) -> Result<(), PosixRefusal> {
        let (parent, name, id) = self.entry(base, path)?;
        if !self.directory(id)?.is_empty() {
            return Err(PosixRefusal::NotEmpty);
        }
        self.unlist(parent, name);
        self.remove_if_unused(id);
        Ok(())
    }

    pub(super) fn remove_file(&mut self, base: NodeId, path: &str) -> Result<(), PosixRefusal> {
        let (parent, name, id) = self.entry(base, path)?;
        if self.is_directory(id) {
            return Err(PosixRefusal::IsDirectory);
        }
        self.unlist(parent, name);
        self.remove_if_unused(id);
        Ok(())
    }

    /// Moves an entry, over another one of its kind if there is one.
    pub(super) fn rename(
        &mut self,
        (from, from_path): (NodeId, &str),
        (to, to_path): (NodeId, &str),
    ) -> Result<(), PosixRefusal> {
        let (from_parent, from_name, id) = self.entry(from, from_path)?;
        let Target::Entry { parent, name, must_be_directory } = self.walk(to, to_path)? else {
            return Err(PosixRefusal::Invalid);
        };
        let is_directory = self.is_directory(id);
        if must_be_directory && !is_directory {
            return Err(PosixRefusal::NotDirectory);
        }
        if is_directory && self.is_within(parent, id) {
            return Err(PosixRefusal::Invalid);
        }
        let replaced = self.directory(parent)?.get(name);
        if let Some(old) = replaced {
            if old == id {
                return Ok(());
            }
            match (is_directory, self.is_directory(old)) {
                (true, false) => return Err(PosixRefusal::NotDirectory),
                (false, true) => return Err(PosixRefusal::IsDirectory),
                (true, true) if !self.directory(old)?.is_empty() => {
                    return Err(PosixRefusal::NotEmpty);
                }
                _ => {}
            }
        }
        self.check_listed(parent)?;
        if let Some(old) = replaced {
            self.unlist(parent, name);
            self.remove_if_unused(old);
        }
        self.unlist(from_parent, from_name);
        self.list(parent, name, id);
        Ok(())
    }

    /// What is known about what `path` names.
    pub(super) fn stat_at(&self, base: NodeId, path: &str) -> Result<Stat, PosixRefusal> {
        Ok(self.stat(self.find(base, path)?))
    }

    pub(super) fn stat(&self, id: NodeId) -> Stat {
        let node = self.node(id);
        let (is_directory, size) = match &node.body {
            NodeBody::File(content) => (false, content.size()),
            NodeBody::Directory(_) => (true, 0),
        };
        let links = u64::from(node.parent.is_some() || id == ROOT);
        Stat { device: DEVICE, node: id, is_directory, size, links, times: node.times }
    }

    /// Sets the two times that a guest may set.
    pub(super) fn set_times(
        &mut self,
        id: NodeId,
        accessed: Option<Duration>,
        modified: Option<Duration>,
    ) {
        let times = &mut self.node_mut(id).times;
        times.accessed = accessed.unwrap_or(times.accessed);
        times.modified = modified.unwrap_or(times.modified);
        times.changed = now();
    }

    /// The node that `path` names.
    pub(super) fn find(&self, base: NodeId, path: &str) -> Result<NodeId, PosixRefusal> {
        match self.walk(base, path)? {
            Target::Directory(id) => Ok(id),
            Target::Entry { .. } => self.entry(base, path).map(|(_, _, id)| id),
        }
    }

    pub(super) fn read(
        &self,
        id: NodeId,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, PosixRefusal> {
        match &self.node(id).body {
            NodeBody::File(content) => Ok(content.read(offset, buffer)),
            NodeBody::Directory(_) => Err(PosixRefusal::IsDirectory),
        }
    }

    /// Writes at `offset`, or at the end. Returns how much was written, and where that ends.
    pub(super) fn write(
        &mut self,
        id: NodeId,
        offset: Option<u64>,
        data: &[u8],
    ) -> Result<(usize, u64), PosixRefusal> {
        let Self { nodes, budget, state, .. } = self;
        let node = nodes[id as usize].as_mut().expect("a handle holds it");
        let NodeBody::File(content) = &mut node.body else { return Err(PosixRefusal::IsDirectory) };
        let offset = offset.unwrap_or(content.size());
        let take = |bytes| budget.take(bytes).map_err(|limit| state.refuse(limit)).is_ok();
        let written = content.write(offset, data, budget.bytes_max() as u64, take)?;
        node.touch();
        Ok((written, offset + written as u64))
    }

    /// How much could be written at `offset`, or at the end.
    pub(super) fn room(&self, id: NodeId, offset: Option<u64>) -> usize {
        match &self.node(id).body {
            NodeBody::File(content) => {
                content.room(offset.unwrap_or(content.size()), self.budget.room())
            }
            NodeBody::Directory(_) => 0,
        }
    }

    pub(super) fn set_size(&mut self, id: NodeId, size: u64) -> Result<(), PosixRefusal> {
        let max = self.budget.bytes_max() as u64;
        let node = self.node_mut(id);
        let NodeBody::File(content) = &mut node.body else { return Err(PosixRefusal::IsDirectory) };
        let freed = content.set_size(size, max)?;
        node.touch();
        self.budget.give_back(freed);
        Ok(())
    }

    /// The entries of a directory from the place `from` on, each with its place. A place stays valid
    /// while other entries come and go.
    pub(super) fn entries(
        &self,
        id: NodeId,
        from: u64,
    ) -> Result<impl Iterator<Item = (u64, &str, NodeId, bool)>, PosixRefusal> {
        let entries = self.directory(id)?.from(from);
        Ok(entries.map(|(place, name, id)| (place, name, id, self.is_directory(id))))
    }

    /// An entry that exists: its directory, its name and what it is.
    fn entry<'a>(
        &self,
        base: NodeId,
        path: &'a str,
    ) -> Result<(NodeId, &'a str, NodeId), PosixRefusal> {
        let Target::Entry { parent, name, must_be_directory } = self.walk(base, path)? else {
            return Err(PosixRefusal::Invalid);
        };
        let id = self.directory(parent)?.get(name).ok_or(PosixRefusal::NoEntry)?;
        if must_be_directory && !self.is_directory(id) {
            return Err(PosixRefusal::NotDirectory);
        }
        Ok((parent, name, id))
    }

    /// Follows a path up to its last name. It cannot leave `base`.
    fn walk<'a>(&self, base: NodeId, path: &'a str) -> Result<Target<'a>, PosixRefusal> {
        path::check(path)?;
        let (mut at, mut depth) = (base, 0_usize);
        self.directory(at)?;
        let mut names = path::names(path).peekable();
        while let Some(name) = names.next() {
            match name {
                "." => {}
                ".." => {
                    depth = depth.checked_sub(1).ok_or(PosixRefusal::NotPermitted)?;
                    at = self.node(at).parent.ok_or(PosixRefusal::NoEntry)?;
                }
                name if names.peek().is_none() => {
                    let must_be_directory = path.ends_with('/');
                    return Ok(Target::Entry { parent: at, name, must_be_directory });
                }
                name => {
                    at = self.directory(at)?.get(name).ok_or(PosixRefusal::NoEntry)?;
                    self.directory(at)?;
                    depth += 1;
                }
            }
        }
        Ok(Target::Directory(at))
    }

    /// Makes an entry that does not exist.
    fn insert(
        &mut self,
        parent: NodeId,
        name: &str,
        body: NodeBody,
    ) -> Result<NodeId, PosixRefusal> {
        self.check_listed(parent)?;
        if let Err(limit) = self.budget.take(ENTRY_BYTES) {
            self.state.refuse(limit);
            return Err(PosixRefusal::NoSpace);
        }
        let node = Some(Node::new(body, Some(parent)));
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                NodeId::try_from(self.nodes.len() - 1).expect("the budget allows fewer")
            }
        };
        self.list(parent, name, id);
        Ok(id)
    }

    /// Nothing can be made in a directory that was removed.
    fn check_listed(&self, directory: NodeId) -> Result<(), PosixRefusal> {
        let listed = directory == ROOT || self.node(directory).parent.is_some();
        if listed { Ok(()) } else { Err(PosixRefusal::NoEntry) }
    }

    fn list(&mut self, parent: NodeId, name: &str, id: NodeId) {
        self.node_mut(id).parent = Some(parent);
        let node = self.node_mut(parent);
        if let NodeBody::Directory(directory) = &mut node.body {
            directory.insert(name, id);
        }
        node.touch();
    }

    fn unlist(&mut self, parent: NodeId, name: &str) {
        let node = self.node_mut(parent);
        node.touch();
        let NodeBody::Directory(directory) = &mut node.body else { return };
        if let Some(id) = directory.remove(name) {
            let node = self.node_mut(id);
            node.parent = None;
            node.times.changed = now();
        }
    }

    fn remove_if_unused(&mut self, id: NodeId) {
        let node = self.node(id);
        if id == ROOT || node.parent.is_some() || node.handles > 0 {
            return;
        }
        let pages = match &node.body {
            NodeBody::File(content) => content.bytes(),
            NodeBody::Directory(_) => 0,
        };
        self.nodes[id as usize] = None;
        self.free.push(id);
        self.budget.give_back(ENTRY_BYTES + pages);
    }

    /// Whether `id` is `directory`, or lies somewhere in it.
    fn is_within(&self, mut id: NodeId, directory: NodeId) -> bool {
        loop {
            if id == directory {
                return true;
            }
            match self.node(id).parent {
                Some(parent) => id = parent,
                None => return false,
            }
        }
    }

    fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.node(id).body, NodeBody::Directory(_))
    }

    fn directory(&self, id: NodeId) -> Result<&DirectoryContent, PosixRefusal> {
        match &self.node(id).body {
            NodeBody::Directory(directory) => Ok(directory),
            NodeBody::File(_) => Err(PosixRefusal::NotDirectory),
        }
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes[id as usize].as_ref().expect("a handle or an entry holds it")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id as usize].as_mut().expect("a handle or an entry holds it")
    }
}
