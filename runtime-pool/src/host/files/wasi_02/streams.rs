//! The streams of `wasi:filesystem` 0.2: what is in a file, and what is in a directory.

use bytes::Bytes;
use wasmtime_wasi::{
    p2::{InputStream, OutputStream, Pollable, StreamError},
    runtime::{AbortOnDropJoinHandle, spawn},
};

use crate::host::files::{READ_BYTES, handle::Handle, refused::PosixRefusal};

/// Reads a file from a place on.
pub(super) struct FileReader {
    handle: Handle,
    offset: u64,
    /// A read that waits for the disk, and what it has brought.
    fetching: Option<AbortOnDropJoinHandle<Result<Vec<u8>, PosixRefusal>>>,
    fetched: Option<Result<Bytes, PosixRefusal>>,
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
        Self { handle, offset, fetching: None, fetched: None }
    }
}

impl FileReader {
    /// What comes next, or nothing if the guest has to wait for it.
    fn next(&mut self, size: usize) -> Result<Bytes, PosixRefusal> {
        if self.fetching.is_some() {
            return Ok(Bytes::new());
        }
        if let Some(fetched) = self.fetched.take() {
            let mut bytes = fetched?;
            let rest = bytes.split_off(size.min(bytes.len()));
            self.fetched = (!rest.is_empty()).then_some(Ok(rest));
            return Ok(bytes);
        }
        let mut bytes = vec![0; size.min(READ_BYTES)];
        if let Some(read) = self.handle.read_now(self.offset, &mut bytes)? {
            bytes.truncate(read);
            return Ok(bytes.into());
        }
        self.fetching = Some(spawn(self.handle.fetch(self.offset, READ_BYTES)));
        Ok(Bytes::new())
    }
}

impl FileWriter {
    pub(super) fn new(handle: Handle, offset: Option<u64>) -> Self {
        Self { handle, offset, failed: false }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), PosixRefusal> {
        while !bytes.is_empty() {
            let (written, end) = self.handle.write(self.offset, bytes)?;
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
        let mut next = None;
        let found = self.handle.entries(self.place, |entry| {
            next = Some((entry.place, entry.name.to_owned(), entry.is_directory));
            false
        });
        // A descriptor that is no directory has no such stream.
        found.ok()?;
        let (place, name, is_directory) = next?;
        self.place = place + 1;
        Some((name, is_directory))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for FileReader {
    async fn ready(&mut self) {
        if let Some(fetching) = &mut self.fetching {
            self.fetched = Some(fetching.await.map(Bytes::from));
            self.fetching = None;
        }
    }
}

/// Only what is in memory is written.
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
        let bytes = self.next(size).map_err(failed)?;
        if bytes.is_empty() && self.fetching.is_none() {
            return Err(StreamError::Closed);
        }
        self.offset += bytes.len() as u64;
        Ok(bytes)
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
        let room = self.handle.room(self.offset);
        Ok(room.clamp(1, READ_BYTES))
    }
}

fn failed(refused: PosixRefusal) -> StreamError {
    StreamError::LastOperationFailed(refused.into())
}
