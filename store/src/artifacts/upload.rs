//! Uploads: an [`UploadWriter`] writes bytes to a temporary file, a [`StoredUpload`] is the
//! finished file, which can be inspected, and publishing a revision moves it to its artifact.

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
        let (file, temp) = blocking("creating a file for an upload", move || {
            let (file, path) = tempfile::Builder::new().tempfile_in(uploads)?.into_parts();
            Ok((file, TempFile(Some(path))))
        })
        .await?;
        let writer = Some(HashingWriter { file, hasher: Sha256::new() });
        Ok(UploadWriter { max_bytes, bytes: 0, pending: Vec::new(), writer, temp })
    }
}

/// An upload in progress. Dropping it removes its file.
#[derive(Debug)]
pub struct UploadWriter {
    max_bytes: u64,
    bytes: u64,
    /// Accepted bytes that were not written yet. Shorter than a block between calls.
    pending: Vec<u8>,
    /// `None` while a block is written. Stays `None` if the write fails or its future is dropped.
    writer: Option<HashingWriter>,
    temp: TempFile,
}

#[derive(Debug)]
struct HashingWriter {
    file: File,
    hasher: Sha256,
}

impl UploadWriter {
    /// Appends `chunk`. If this fails or its future is dropped, the upload cannot be continued.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] when `chunk` would exceed the limit, and then none of it is written;
    /// [`Error::NoSpace`] and [`Error::Io`].
    pub async fn write(&mut self, chunk: &[u8]) -> Result<()> {
        // A length in memory always fits into 64 bits.
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

    /// The number of bytes accepted so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the upload. When this returns, the bytes are on disk.
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
            action: "continuing an upload",
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

/// A finished upload: a temporary file whose bytes are on disk. Dropping it removes the file,
/// unless publishing has moved it.
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

    /// The number of bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file, for inspection and compilation before it is published. Publishing moves it to
    /// [`Store::artifact_path`].
    pub fn path(&self) -> &Path {
        self.temp.0.as_deref().expect("a temporary file has a path until it is dropped")
    }
}

/// A temporary file. Dropping it removes the file, unless it was renamed.
#[derive(Debug)]
struct TempFile(Option<TempPath>);

impl Drop for TempFile {
    fn drop(&mut self) {
        let path = self.0.take();
        match Handle::try_current() {
            // Removing a large file may block. Nothing waits for the task: if a shutdown prevents
            // it, opening the store removes the file.
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(path))),
            Err(_no_runtime) => drop(path),
        }
    }
}
