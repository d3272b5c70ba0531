//! Blobs: the files of trees, named by the SHA-256 of their bytes, so that each is stored once.
//!
//! A tree has up to thousands of them. They are written one after the other on a thread that may
//! block, and synced together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::syncfs;
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;

use crate::{
    Digest, Error, Result, Store,
    directory::{Directory, blocking, private_directory, sync_directory},
};

/// The suffix of a blob's file.
pub(super) const SUFFIX: &str = ".file";

/// Up to this many files and directories are synced one by one. More are synced with everything else
/// on the file system, which is faster for them.
const SYNC_EACH: usize = 64;

const WRITING: &str = "writing a file of a tree";

/// The blobs of a tree that is being uploaded: temporary files. Dropping it removes those that
/// publishing has not moved. Its methods block.
#[derive(Debug)]
pub struct TreeUpload {
    directory: Directory,
    blobs: BTreeMap<Digest, (TempPath, u64)>,
}

/// A blob that is being written.
#[derive(Debug)]
pub struct BlobWriter<'a> {
    upload: &'a mut TreeUpload,
    file: File,
    temp: TempPath,
    hasher: Sha256,
    bytes: u64,
}

impl Store {
    /// Begins the upload of a tree.
    pub fn begin_tree(&self) -> TreeUpload {
        TreeUpload { directory: self.directory().clone(), blobs: BTreeMap::new() }
    }

    /// The path of a blob's file once a tree with it was published.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        path_in(self.directory(), digest)
    }

    /// Reads a blob of at most `max_bytes`. `None` when its file does not exist, or has other bytes
    /// than its name says.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::Error::Io).
    pub async fn read_blob(&self, digest: &Digest, max_bytes: u64) -> Result<Option<Vec<u8>>> {
        let (path, digest) = (self.blob_path(digest), *digest);
        blocking("reading a file of a tree", move || {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            let mut bytes = Vec::new();
            file.take(max_bytes).read_to_end(&mut bytes)?;
            Ok((Digest::of(&bytes) == digest).then_some(bytes))
        })
        .await
    }
}

impl TreeUpload {
    /// Begins a blob.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] and [`Error::Io`].
    pub fn begin_blob(&mut self) -> Result<BlobWriter<'_>> {
        let made = tempfile::Builder::new().tempfile_in(self.directory.uploads());
        let (file, temp) = made.map_err(Error::io(WRITING))?.into_parts();
        Ok(BlobWriter { upload: self, file, temp, hasher: Sha256::new(), bytes: 0 })
    }

    /// The blobs with their sizes.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = (&Digest, u64)> {
        self.blobs.iter().map(|(digest, (_, bytes))| (digest, *bytes))
    }

    /// Moves the files to the paths of their blobs. When this returns, they survive a power cut
    /// there.
    ///
    /// The caller holds the artifact lock shared from before this call until the rows of the blobs
    /// have committed. Otherwise garbage collection could remove the files in between.
    pub(crate) fn move_into_place(self) -> io::Result<()> {
        let Self { directory, blobs } = self;
        sync(&directory, blobs.values().map(|(temp, _)| temp.as_ref()), sync_file)?;
        let mut shards = BTreeSet::new();
        for (digest, (temp, _)) in blobs {
            let path = path_in(&directory, &digest);
            let shard = path.parent().expect("a blob lies in a shard");
            if shards.insert(shard.to_owned()) {
                private_directory(shard)?;
            }
            // This also replaces an existing file, which may be damaged.
            temp.persist(&path).map_err(|refused| refused.error)?;
        }
        // Also where the shard existed: the task that created it may not have synced it yet.
        shards.insert(directory.artifacts());
        sync(&directory, shards.iter().map(PathBuf::as_path), sync_directory)
    }
}

impl BlobWriter<'_> {
    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] and [`Error::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(Error::io(WRITING))
    }

    /// Ends the blob, and returns its digest.
    pub fn finish(self) -> Digest {
        let digest = Digest::from_bytes(self.hasher.finalize().into());
        self.upload.blobs.entry(digest).or_insert((self.temp, self.bytes));
        digest
    }
}

/// `artifacts/ab/abcd….file`, beside the artifacts.
pub(crate) fn path_in(directory: &Directory, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    directory.artifacts().join(&name[..2]).join(name + SUFFIX)
}

/// Syncs each path by `each`, or all at once.
fn sync<'a>(
    directory: &Directory,
    paths: impl ExactSizeIterator<Item = &'a Path>,
    each: impl FnMut(&'a Path) -> io::Result<()>,
) -> io::Result<()> {
    if paths.len() > SYNC_EACH {
        return Ok(syncfs(File::open(directory.artifacts())?)?);
    }
    let mut paths = paths;
    paths.try_for_each(each)
}

fn sync_file(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.sync_all()
}
