//! The trees of files of a node. Functions that are given the same tree share its directories.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use crate::{
    error::LoadError,
    executor::spec::FilesSpec,
    host::files::mounted::{MountedFiles, blobs::BlobFiles, list::FileList, tree::FileTree},
    metrics::PoolMetrics,
};

/// The trees that functions in memory are given.
pub(super) struct FileTrees {
    blobs: BlobFiles,
    /// By the digests of their lists.
    trees: Mutex<HashMap<[u8; 32], Weak<FileTree>>>,
}

impl FileTrees {
    pub(super) fn new(metrics: PoolMetrics) -> Self {
        Self { blobs: BlobFiles::new(metrics), trees: Mutex::default() }
    }

    /// Reads and verifies the list of a tree, unless another function has it. The files themselves are
    /// verified when they are first read.
    pub(super) async fn load(&self, spec: &FilesSpec) -> Result<Arc<MountedFiles>, LoadError> {
        let known = self.lock().get(&spec.tree).and_then(Weak::upgrade);
        let tree = match known {
            Some(tree) => tree,
            None => {
                let unread = spec.clone();
                let reading = spawn_blocking(move || read(&unread)).await;
                let tree = reading.map_err(|error| LoadError::Engine {
                    what: "reading the list of a function's files",
                    detail: error.to_string(),
                })??;
                self.share(spec.tree, tree)
            }
        };
        let (at, path) = (Arc::clone(&spec.at), spec.blob_path.clone());
        Ok(Arc::new(MountedFiles { tree, at, blobs: self.blobs.clone(), path }))
    }

    /// Lets other functions use a tree that was read. Two may have read it at the same time.
    fn share(&self, digest: [u8; 32], tree: FileTree) -> Arc<FileTree> {
        let mut trees = self.lock();
        if let Some(known) = trees.get(&digest).and_then(Weak::upgrade) {
            return known;
        }
        trees.retain(|_, tree| tree.strong_count() > 0);
        let tree = Arc::new(tree);
        trees.insert(digest, Arc::downgrade(&tree));
        tree
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Weak<FileTree>>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks on the file system.
fn read(spec: &FilesSpec) -> Result<FileTree, LoadError> {
    let bytes = match std::fs::read(spec.blob_path.of(&spec.tree)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LoadError::FilesDamaged);
        }
        read => read.map_err(LoadError::io("reading the list of a function's files"))?,
    };
    if Sha256::digest(&bytes).as_slice() != spec.tree {
        return Err(LoadError::FilesDamaged);
    }
    let list = String::from_utf8(bytes).ok().and_then(|text| FileList::parse(&text).ok());
    list.as_ref().map(FileTree::new).ok_or(LoadError::FilesDamaged)
}
