//! What a guest has open: something in the scratch directory, or something that it can only read.

use std::time::Duration;

use super::{
    READ_BYTES,
    mounted::MountedHandle,
    node::{DirEntry, Fetch, Open, Stat},
    refused::PosixRefusal,
    scratch::ScratchHandle,
};

/// An open file or directory.
#[derive(Clone)]
pub(super) enum Handle {
    Scratch(ScratchHandle),
    Mounted(MountedHandle),
}

impl Handle {
    /// Whether this is a directory that guests begin in, and may keep open between two calls.
    pub(super) fn is_root(&self) -> bool {
        match self {
            Self::Scratch(handle) => handle.is_root(),
            Self::Mounted(handle) => handle.is_root(),
        }
    }

    /// The path under which guests see the directory that they begin in.
    pub(super) fn mount(&self) -> &str {
        match self {
            Self::Scratch(handle) => handle.mount(),
            Self::Mounted(handle) => handle.mount(),
        }
    }

    /// Opens what `path` names in this directory.
    pub(super) fn open(&self, path: &str, how: Open) -> Result<Self, PosixRefusal> {
        match self {
            Self::Scratch(handle) => handle.open(path, how).map(Self::Scratch),
            Self::Mounted(handle) => handle.open(path, how).map(Self::Mounted),
        }
    }

    pub(super) fn stat(&self) -> Stat {
        match self {
            Self::Scratch(handle) => handle.stat(),
            Self::Mounted(handle) => handle.stat(),
        }
    }

    /// What is known about what `path` names.
    pub(super) fn stat_at(&self, path: &str) -> Result<Stat, PosixRefusal> {
        match self {
            Self::Scratch(handle) => handle.stat_at(path),
            Self::Mounted(handle) => handle.stat_at(path),
        }
    }

    /// Reads what is there at `offset` if that needs no disk: `None` if it does.
    pub(super) fn read_now(
        &self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, PosixRefusal> {
        match self {
            Self::Scratch(handle) => handle.read(offset, buffer).map(Some),
            Self::Mounted(handle) => handle.read_now(offset, buffer),
        }
    }

    /// Reads from the disk. Only what [`Self::read_now`] has not read is there.
    pub(super) fn fetch(&self, offset: u64, most: usize) -> Fetch {
        match self {
            Self::Scratch(_) => Box::pin(async { Ok(Vec::new()) }),
            Self::Mounted(handle) => handle.fetch(offset, most),
        }
    }

    /// Fills `buffer` from `offset` on, up to the end of the file.
    pub(super) async fn read_into(
        &self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, PosixRefusal> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset.saturating_add(filled as u64);
            let read = match self.read_now(at, &mut buffer[filled..])? {
                Some(read) => read,
                None => {
                    let bytes = self.fetch(at, (buffer.len() - filled).min(READ_BYTES)).await?;
                    buffer[filled..filled + bytes.len()].copy_from_slice(&bytes);
                    bytes.len()
                }
            };
            if read == 0 {
                break;
            }
            filled += read;
        }
        Ok(filled)
    }

    /// Writes at `offset`, or at the end. Returns how much was written, and where that ends.
    pub(super) fn write(
        &self,
        offset: Option<u64>,
        data: &[u8],
    ) -> Result<(usize, u64), PosixRefusal> {
        self.scratch()?.write(offset, data)
    }

    /// How much could be written at `offset`, or at the end.
    pub(super) fn room(&self, offset: Option<u64>) -> usize {
        match self {
            Self::Scratch(handle) => handle.room(offset),
            Self::Mounted(_) => 0,
        }
    }

    pub(super) fn set_size(&self, size: u64) -> Result<(), PosixRefusal> {
        self.scratch()?.set_size(size)
    }

    /// Sets the two times that a guest may set, of this or of what `path` names in it.
    pub(super) fn set_times(
        &self,
        path: Option<&str>,
        accessed: Option<Duration>,
        modified: Option<Duration>,
    ) -> Result<(), PosixRefusal> {
        self.scratch()?.set_times(path, accessed, modified)
    }

    pub(super) fn create_directory(&self, path: &str) -> Result<(), PosixRefusal> {
        self.scratch()?.create_directory(path)
    }

    pub(super) fn remove_directory(&self, path: &str) -> Result<(), PosixRefusal> {
        self.scratch()?.remove_directory(path)
    }

    pub(super) fn remove_file(&self, path: &str) -> Result<(), PosixRefusal> {
        self.scratch()?.remove_file(path)
    }

    /// Moves an entry of this directory to another one.
    pub(super) fn rename(&self, path: &str, to: &Self, to_path: &str) -> Result<(), PosixRefusal> {
        match (self, to) {
            (Self::Scratch(from), Self::Scratch(to)) => from.rename(path, to, to_path),
            (Self::Mounted(_), Self::Mounted(_)) => Err(PosixRefusal::ReadOnly),
            _ => Err(PosixRefusal::CrossDevice),
        }
    }

    /// Passes the entries of this directory from a place on to `each`, until that returns false.
    pub(super) fn entries(
        &self,
        from: u64,
        each: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), PosixRefusal> {
        match self {
            Self::Scratch(handle) => handle.entries(from, each),
            Self::Mounted(handle) => handle.entries(from, each),
        }
    }

    /// What can be changed.
    fn scratch(&self) -> Result<&ScratchHandle, PosixRefusal> {
        match self {
            Self::Scratch(handle) => Ok(handle),
            Self::Mounted(_) => Err(PosixRefusal::ReadOnly),
        }
    }
}
