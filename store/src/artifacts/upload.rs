//! Uploads: bytes arrive in a temporary file ([`UploadWriter`]), can be looked at there ([`StoredUpload`]),
//! and move to their place when a revision is published with them.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};
use tempfile::TempPath;
use tokio::runtime::Handle;

use crate::{Digest, Error, Result, Store, directory::blocking};

/// Bytes that are gathered before they are hashed and written on a blocking thread.
/// Large against the cost of going there (about 20 µs), small against memory.
const BLOCK_BYTES: usize = 256 * 1024;

impl Store {
    /// Begins an upload of at most `max_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] and [`Error::Io`].
    pub async fn begin_upload(&self, max_bytes: u64) -> Result<UploadWriter> {
        let uploads = self.directory().uploads();
        let (file, temp) = blocking("making a file for an upload", move || {
            let (file, path) = tempfile::Builder::new().tempfile_in(uploads)?.into_parts();
            Ok((file, TempFile(Some(path))))
        })
        .await?;
        let writer = Some(HashingWriter { file, hasher: Sha256::new() });
        Ok(UploadWriter { max_bytes, bytes: 0, pending: Vec::new(), writer, temp })
    }
}

/// Bytes that are arriving. Dropping it removes them.
#[derive(Debug)]
pub struct UploadWriter {
    max_bytes: u64,
    bytes: u64,
    /// Accepted, not yet written. Shorter than a block between calls.
    pending: Vec<u8>,
    /// Taken while a block is being written; missing for good when that failed or its
    /// future was dropped.
    writer: Option<HashingWriter>,
    temp: TempFile,
}

#[derive(Debug)]
struct HashingWriter {
    file: File,
    hasher: Sha256,
}

impl UploadWriter {
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
                let mut writer = self.take_writer()?;
                let (writer, block) = blocking("writing an upload", move || {
                    writer.write(&block)?;
                    Ok((writer, block))
                })
                .await?;
                self.writer = Some(writer);
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
    pub async fn finish(mut self) -> Result<StoredUpload> {
        let mut writer = self.take_writer()?;
        let block = std::mem::take(&mut self.pending);
        let digest = blocking("finishing an upload", move || {
            writer.write(&block)?;
            writer.file.sync_all()?;
            Ok(Digest::from_bytes(writer.hasher.finalize().into()))
        })
        .await?;
        Ok(StoredUpload { digest, bytes: self.bytes, temp: self.temp })
    }

    fn take_writer(&mut self) -> Result<HashingWriter> {
        self.writer.take().ok_or_else(|| Error::Io {
            what: "going on with an upload",
            source: io::Error::other("an earlier write failed or was interrupted"),
        })
    }
}

impl HashingWriter {
    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        self.hasher.update(block);
        self.file.write_all(block)
    }
}

/// Bytes that have arrived and are on disk, in a file that nobody else knows of.
/// Dropping it removes that file, unless publishing has moved it.
#[derive(Debug)]
pub struct StoredUpload {
    digest: Digest,
    bytes: u64,
    temp: TempFile,
}

impl StoredUpload {
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
