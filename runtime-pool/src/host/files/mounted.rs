//! The files that a function was given: a tree that nobody can change.
//!
//! Its directories are in memory, and its files are looked up there by name; what is in a file is read
//! from the file of the machine that has the same digest. Guests see no time, no number and no path of
//! the machine.

pub(crate) mod blobs;
pub(crate) mod list;
pub(crate) mod tree;

use std::sync::Arc;

use self::{
    blobs::{BlobFiles, BlobPath},
    tree::FileTree,
};
use super::{
    node::{DirEntry, Fetch, NodeId, Open, ROOT, Stat},
    refused::PosixRefusal,
};

/// A tree, and where guests see it.
#[derive(Clone)]
pub(crate) struct MountedFiles {
    pub(crate) tree: Arc<FileTree>,
    /// The path of its directory.
    pub(crate) at: Arc<str>,
    pub(crate) blobs: BlobFiles,
    pub(crate) path: BlobPath,
}

/// An open file or directory of a tree.
#[derive(Clone)]
pub(super) struct MountedHandle {
    files: Arc<MountedFiles>,
    node: NodeId,
}

impl MountedHandle {
    /// The tree itself.
    pub(super) fn root(files: &Arc<MountedFiles>) -> Self {
        Self { files: Arc::clone(files), node: ROOT }
    }

    pub(super) fn is_root(&self) -> bool {
        self.node == ROOT
    }

    pub(super) fn mount(&self) -> &str {
        &self.files.at
    }

    /// Opens what `path` names. As on a file system that is mounted read-only, what is there can be
    /// opened by who would make it if it were not.
    pub(super) fn open(&self, path: &str, how: Open) -> Result<Self, PosixRefusal> {
        let tree = &self.files.tree;
        let node = match tree.find(self.node, path) {
            Err(PosixRefusal::NoEntry) if how.create => return Err(PosixRefusal::ReadOnly),
            found => found?,
        };
        if how.create && how.exclusive {
            return Err(PosixRefusal::Exists);
        }
        match tree.is_directory(node) {
            true if how.create || how.write || how.truncate => Err(PosixRefusal::IsDirectory),
            false if how.directory => Err(PosixRefusal::NotDirectory),
            false if how.write || how.truncate => Err(PosixRefusal::ReadOnly),
            _ => Ok(Self { files: Arc::clone(&self.files), node }),
        }
    }

    pub(super) fn stat(&self) -> Stat {
        self.files.tree.stat(self.node)
    }

    pub(super) fn stat_at(&self, path: &str) -> Result<Stat, PosixRefusal> {
        Ok(self.files.tree.stat(self.files.tree.find(self.node, path)?))
    }

    pub(super) fn read_now(
        &self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, PosixRefusal> {
        self.files.blobs.read_cached(self.files.tree.file(self.node)?, offset, buffer)
    }

    pub(super) fn fetch(&self, offset: u64, most: usize) -> Fetch {
        let MountedFiles { tree, blobs, path, .. } = &*self.files;
        match tree.file(self.node) {
            Ok(file) => Box::pin(blobs.clone().fetch(path.clone(), file, offset, most)),
            Err(refused) => Box::pin(async move { Err(refused) }),
        }
    }

    pub(super) fn entries(
        &self,
        from: u64,
        mut each: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), PosixRefusal> {
        for (place, name, node, is_directory) in self.files.tree.entries(self.node, from)? {
            if !each(DirEntry { place, name, node, is_directory }) {
                break;
            }
        }
        Ok(())
    }
}
