//! Artifacts: the bytes that revisions run, in files that are named by their SHA-256.
//!
//! Bytes arrive in a temporary file ([`Upload`]), can be looked at there ([`Received`]),
//! and move to their place when a revision is published with them.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tempfile::TempPath;
use tokio::runtime::Handle;

use crate::{
    Digest, Error, Result, Store,
    directory::{Directory, blocking, private_directory, sync_directory},
};

/// Bytes that are gathered before they are hashed and written on a blocking thread.
/// Large against the cost of going there (about 20 µs), small against memory.
const BLOCK_BYTES: usize = 256 * 1024;

impl Store {
    /// Begins an upload of at most `max_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] and [`Error::Io`].
    pub async fn receive(&self, max_bytes: u64) -> Result<Upload> {
        let uploads = self.inner.directory.uploads();
        let (file, temp) = blocking("making a file for an upload", move || {
            let (file, path) = tempfile::Builder::new().tempfile_in(uploads)?.into_parts();
            Ok((file, TempFile(Some(path))))
        })
        .await?;
        let sink = Some(Sink { file, hasher: Sha256::new() });
        Ok(Upload { max_bytes, bytes: 0, pending: Vec::new(), sink, temp })
    }

    /// Where an artifact lies once a revision was published with it. The file need not
    /// exist.
    pub fn artifact_path(&self, digest: &Digest) -> PathBuf {
        self.inner.directory.artifact(digest)
    }

    /// Opens an artifact for reading, and says how many bytes it has. `None` when it is
    /// not there. An open file stays readable when its artifact is collected.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub async fn open_artifact(&self, digest: &Digest) -> Result<Option<(tokio::fs::File, u64)>> {
        let path = self.artifact_path(digest);
        let opened = blocking("opening an artifact", move || match File::open(path) {
            Ok(file) => {
                let bytes = file.metadata()?.len();
                Ok(Some((file, bytes)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await?;
        Ok(opened.map(|(file, bytes)| (tokio::fs::File::from_std(file), bytes)))
    }

    /// Whether an artifact's file is there and has the bytes that it is named for. Reads all
    /// of it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub async fn is_whole(&self, digest: &Digest) -> Result<bool> {
        let (path, digest) = (self.artifact_path(digest), *digest);
        blocking("checking an artifact", move || is_whole(&path, &digest)).await
    }

    /// Puts a damaged artifact aside, so that nobody reads it again, and says whether it was
    /// damaged. Uploading its bytes once more brings it back.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] and [`Error::Io`].
    pub async fn quarantine(&self, digest: &Digest) -> Result<bool> {
        // Alone: a publish of the same bytes may be mending it.
        let alone = self.inner.placing.clone().write_owned().await;
        let (directory, digest) = (self.inner.directory.clone(), *digest);
        blocking("putting a damaged artifact aside", move || {
            let _alone = alone;
            let path = directory.artifact(&digest);
            if !path.exists() || is_whole(&path, &digest)? {
                return Ok(false);
            }
            private_directory(&directory.quarantine())?;
            fs::rename(&path, directory.quarantine().join(format!("{digest}.wasm")))?;
            Ok(true)
        })
        .await
    }

    /// Moves received bytes to their place, and returns when that will survive a power cut.
    ///
    /// The caller holds the placing lock from before this call until the artifact's row
    /// has committed: else garbage collection could remove the file in between.
    pub(crate) async fn place(&self, received: &Received) -> Result<()> {
        let digest = received.digest;
        let temp = received.path().to_owned();
        let directory = self.inner.directory.clone();
        blocking("moving an artifact to its place", move || place(&directory, &digest, &temp)).await
    }
}

fn place(directory: &Directory, digest: &Digest, temp: &Path) -> io::Result<()> {
    let path = directory.artifact(digest);
    let shard = path.parent().expect("an artifact lies in a shard");
    private_directory(shard)?;
    // Even over a file that is there: it may be damaged, and these bytes were hashed a moment
    // ago. Two tasks rename equal bytes over each other.
    match fs::rename(temp, &path) {
        // Published a second time by the same caller, after an error or for another function.
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_whole(&path, digest)? => {}
        renamed => renamed?,
    }
    // Even when the shard was there: whoever made it may not have come to this line yet, and our
    // row must not commit before it is safe.
    sync_directory(shard)?;
    sync_directory(&directory.artifacts())
}

/// Whether a file has the bytes that `digest` is of; not if there is none.
fn is_whole(path: &Path, digest: &Digest) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => hasher.update(&block[..read]),
        }
    }
    Ok(hasher.finalize().as_slice() == digest.as_bytes())
}

/// Bytes that are arriving. Dropping it removes them.
#[derive(Debug)]
pub struct Upload {
    max_bytes: u64,
    bytes: u64,
    /// Accepted, not yet written. Shorter than a block between calls.
    pending: Vec<u8>,
    /// Taken while a block is being written; missing for good when that failed or its
    /// future was dropped.
    sink: Option<Sink>,
    temp: TempFile,
}

#[derive(Debug)]
struct Sink {
    file: File,
    hasher: Sha256,
}

impl Upload {
    /// Appends `chunk`. When this fails or is dropped midway, the upload is of no
    /// further use.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] when the limit would be exceeded, and then nothing of `chunk`
    /// is written; [`Error::NoSpace`] and [`Error::Io`].
    pub async fn write(&mut self, chunk: &[u8]) -> Result<()> {
        // A length in memory always fits.
        let bytes = self.bytes.saturating_add(chunk.len() as u64);
        if bytes > self.max_bytes {
            return Err(Error::TooLarge { max_bytes: self.max_bytes });
        }
        self.bytes = bytes;
        let mut rest = chunk;
        while !rest.is_empty() {
            let room = BLOCK_BYTES - self.pending.len();
            let (fits, later) = rest.split_at(room.min(rest.len()));
            self.pending.extend_from_slice(fits);
            rest = later;
            if self.pending.len() == BLOCK_BYTES {
                let block = std::mem::take(&mut self.pending);
                let mut sink = self.take_sink()?;
                let (sink, block) = blocking("writing an upload", move || {
                    sink.write(&block)?;
                    Ok((sink, block))
                })
                .await?;
                self.sink = Some(sink);
                self.pending = block;
                self.pending.clear();
            }
        }
        Ok(())
    }

    /// Bytes accepted so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns when the bytes are on disk, with their digest.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] and [`Error::Io`].
    pub async fn finish(mut self) -> Result<Received> {
        let mut sink = self.take_sink()?;
        let block = std::mem::take(&mut self.pending);
        let digest = blocking("finishing an upload", move || {
            sink.write(&block)?;
            sink.file.sync_all()?;
            Ok(Digest::from_bytes(sink.hasher.finalize().into()))
        })
        .await?;
        Ok(Received { digest, bytes: self.bytes, temp: self.temp })
    }

    fn take_sink(&mut self) -> Result<Sink> {
        self.sink.take().ok_or_else(|| Error::Io {
            what: "going on with an upload",
            source: io::Error::other("an earlier write failed or was interrupted"),
        })
    }
}

impl Sink {
    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        self.hasher.update(block);
        self.file.write_all(block)
    }
}

/// Bytes that have arrived and are on disk, in a file that nobody else knows of.
/// Dropping it removes that file, unless publishing has moved it.
#[derive(Debug)]
pub struct Received {
    digest: Digest,
    bytes: u64,
    temp: TempFile,
}

impl Received {
    /// The SHA-256 of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file with the bytes, for inspecting and compiling before they are published.
    /// After that they are at [`Store::artifact_path`].
    pub fn path(&self) -> &Path {
        self.temp.0.as_deref().expect("a temporary file has its path until it is dropped")
    }
}

/// A temporary file. Dropping it removes it if it still has its first name.
#[derive(Debug)]
struct TempFile(Option<TempPath>);

impl Drop for TempFile {
    fn drop(&mut self) {
        let path = self.0.take();
        match Handle::try_current() {
            // Removing a large file may block. Nobody waits for it: a file that a
            // shutdown leaves behind is removed when the store is opened again.
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(path))),
            Err(_no_runtime) => drop(path),
        }
    }
}
