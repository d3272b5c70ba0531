//! The streams of `wasi:filesystem` 0.2: what is in a file, and what is in a directory.

use bytes::Bytes;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError};

use crate::host::scratch::{Handle, READ_BYTES, refused::Refused};

/// Reads a file from a place on.
pub(super) struct FileReader {
    handle: Handle,
    offset: u64,
}

/// Writes a file from a place on, or at its end.
pub(super) struct FileWriter {
    handle: Handle,
    offset: Option<u64>,
    failed: bool,
}

/// Reads a directory.
pub(super) struct DirectoryReader {
    handle: Handle,
    place: u64,
}

impl FileReader {
    pub(super) fn new(handle: Handle, offset: u64) -> Self {
        Self { handle, offset }
    }
}

impl FileWriter {
    pub(super) fn new(handle: Handle, offset: Option<u64>) -> Self {
        Self { handle, offset, failed: false }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        while !bytes.is_empty() {
            let (written, end) = self.handle.tree().write(self.handle.node, self.offset, bytes)?;
            self.offset = self.offset.map(|_| end);
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

impl DirectoryReader {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, place: 0 }
    }

    /// The next entry, and whether it is a directory.
    pub(super) fn next(&mut self) -> Option<(String, bool)> {
        let tree = self.handle.tree();
        // A descriptor that is no directory has no such stream.
        let mut entries = tree.entries(self.handle.node, self.place).ok()?;
        let (place, name, _, is_directory) = entries.next()?;
        let next = (name.to_owned(), is_directory);
        self.place = place + 1;
        Some(next)
    }
}

/// There is no disk to wait for.
#[wasmtime_wasi::async_trait]
impl Pollable for FileReader {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl Pollable for FileWriter {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl InputStream for FileReader {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.handle.read(self.offset, size).map_err(failed)?;
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        self.offset += bytes.len() as u64;
        Ok(bytes.into())
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for FileWriter {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.check_write()?;
        self.write_all(&bytes).map_err(|refused| {
            self.failed = true;
            failed(refused)
        })
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        if self.failed {
            return Err(StreamError::Closed);
        }
        // So that what a guest has written before the end of the space is whole. At the end it may try,
        // and gets the error.
        let room = self.handle.tree().room(self.handle.node, self.offset);
        Ok(room.clamp(1, READ_BYTES))
    }
}

fn failed(refused: Refused) -> StreamError {
    StreamError::LastOperationFailed(refused.into())
}
