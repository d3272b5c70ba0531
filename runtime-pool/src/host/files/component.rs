//! What both versions of `wasi:filesystem` do with the descriptors of a component.
//!
//! The bindings are the library's, in which a descriptor is a file or directory of the machine. Ours
//! are in the same table of resources, and only their numbers have the library's type.

use std::{sync::Arc, time::Duration};

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::filesystem::Descriptor;

use super::{
    READ_BYTES,
    handle::Handle,
    mounted::{MountedFiles, MountedHandle},
    node::{Open, Stat},
    refused::{CallFailure, PosixRefusal},
    scratch::Scratch,
};

/// A descriptor, by the number that the guest has.
pub(super) type Fd = Resource<Descriptor>;

/// An open file or directory of a component.
pub(in crate::host) struct OpenNode {
    pub(super) handle: Handle,
    pub(super) mode: Mode,
}

/// How it was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    pub(super) read: bool,
    pub(super) write: bool,
    /// Whether what is in a directory may be changed. A request only: that depends on the directory.
    pub(super) mutate: bool,
}

/// The files of a component, and what it has open.
pub(in crate::host) struct FilesView<'a> {
    pub(in crate::host) table: &'a mut ResourceTable,
    pub(in crate::host) scratch: Option<&'a Scratch>,
    pub(in crate::host) mounted: Option<&'a Arc<MountedFiles>>,
}

/// The bindings' name for [`FilesView`].
pub(in crate::host) struct GuestFiles;

impl HasData for GuestFiles {
    type Data<'a> = FilesView<'a>;
}

impl OpenNode {
    /// Whether this is a directory that the guest began in, which it may keep open between two calls.
    pub(in crate::host) fn is_root(&self) -> bool {
        self.handle.is_root()
    }
}

impl FilesView<'_> {
    /// The directories that are open from the beginning.
    pub(super) fn directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        let mounted = self.mounted.map(|files| Handle::Mounted(MountedHandle::root(files)));
        let scratch = self.scratch.map(|scratch| Handle::Scratch(scratch.root()));
        let mut directories = Vec::new();
        for (handle, mutate) in [(mounted, false), (scratch, true)] {
            let Some(handle) = handle else { continue };
            let mount = handle.mount().to_owned();
            let mode = Mode { read: true, write: false, mutate };
            directories.push((self.add(OpenNode { handle, mode })?, mount));
        }
        Ok(directories)
    }

    pub(super) fn get(&self, fd: &Fd) -> Result<&OpenNode, CallFailure> {
        let own = Resource::<OpenNode>::new_borrow(fd.rep());
        self.table.get(&own).map_err(|error| CallFailure::Trap(error.into()))
    }

    fn add(&mut self, open: OpenNode) -> wasmtime::Result<Fd> {
        Ok(Resource::new_own(self.table.push(open)?.rep()))
    }

    pub(super) fn close(&mut self, fd: &Fd) -> wasmtime::Result<()> {
        self.table.delete(Resource::<OpenNode>::new_own(fd.rep()))?;
        Ok(())
    }

    /// A file that can be read.
    pub(super) fn readable(&self, fd: &Fd) -> Result<&Handle, CallFailure> {
        let open = self.get(fd)?;
        if self.status(fd)?.is_directory {
            return Err(PosixRefusal::IsDirectory.into());
        }
        if open.mode.read { Ok(&open.handle) } else { Err(PosixRefusal::BadDescriptor.into()) }
    }

    /// A file that can be written.
    pub(super) fn writable(&self, fd: &Fd) -> Result<&Handle, CallFailure> {
        let open = self.get(fd)?;
        if self.status(fd)?.is_directory {
            return Err(PosixRefusal::IsDirectory.into());
        }
        if open.mode.write { Ok(&open.handle) } else { Err(PosixRefusal::BadDescriptor.into()) }
    }

    /// A directory.
    pub(super) fn directory(&self, fd: &Fd) -> Result<&Handle, CallFailure> {
        if !self.status(fd)?.is_directory {
            return Err(PosixRefusal::NotDirectory.into());
        }
        Ok(&self.get(fd)?.handle)
    }

    pub(super) fn status(&self, fd: &Fd) -> Result<Stat, CallFailure> {
        Ok(self.get(fd)?.handle.stat())
    }

    pub(super) fn status_at(&self, fd: &Fd, path: &str) -> Result<Stat, CallFailure> {
        Ok(self.get(fd)?.handle.stat_at(path)?)
    }

    pub(super) fn open(
        &mut self,
        fd: &Fd,
        path: &str,
        how: Open,
        mode: Mode,
    ) -> Result<Fd, CallFailure> {
        let handle = self.get(fd)?.handle.open(path, how)?;
        self.add(OpenNode { handle, mode }).map_err(CallFailure::Trap)
    }

    /// At most `length` bytes from `offset` on, and none at the end of the file.
    pub(super) fn read_file(
        &self,
        fd: &Fd,
        length: u64,
        offset: u64,
    ) -> Result<impl Future<Output = Result<Vec<u8>, PosixRefusal>> + Send + use<>, CallFailure>
    {
        let handle = self.readable(fd)?.clone();
        Ok(async move {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(READ_BYTES)];
            let read = handle.read_into(offset, &mut bytes).await?;
            bytes.truncate(read);
            Ok(bytes)
        })
    }

    pub(super) fn write_file(&self, fd: &Fd, data: &[u8], offset: u64) -> Result<u64, CallFailure> {
        let (written, _) = self.writable(fd)?.write(Some(offset), data)?;
        Ok(written as u64)
    }

    pub(super) fn cut(&self, fd: &Fd, size: u64) -> Result<(), CallFailure> {
        Ok(self.writable(fd)?.set_size(size)?)
    }

    pub(super) fn touch(
        &self,
        fd: &Fd,
        path: Option<&str>,
        accessed: Option<Duration>,
        modified: Option<Duration>,
    ) -> Result<(), CallFailure> {
        Ok(self.get(fd)?.handle.set_times(path, accessed, modified)?)
    }

    pub(super) fn make_directory(&self, fd: &Fd, path: &str) -> Result<(), CallFailure> {
        Ok(self.get(fd)?.handle.create_directory(path)?)
    }

    pub(super) fn remove_directory(&self, fd: &Fd, path: &str) -> Result<(), CallFailure> {
        Ok(self.get(fd)?.handle.remove_directory(path)?)
    }

    pub(super) fn remove_file(&self, fd: &Fd, path: &str) -> Result<(), CallFailure> {
        Ok(self.get(fd)?.handle.remove_file(path)?)
    }

    pub(super) fn rename(
        &self,
        (fd, path): (&Fd, &str),
        (new_fd, new_path): (&Fd, &str),
    ) -> Result<(), CallFailure> {
        let (from, to) = (&self.get(fd)?.handle, &self.get(new_fd)?.handle);
        Ok(from.rename(path, to, new_path)?)
    }

    /// There are no links: what exists is none.
    pub(super) fn read_link(&self, fd: &Fd, path: &str) -> Result<String, CallFailure> {
        self.status_at(fd, path)?;
        Err(PosixRefusal::Invalid.into())
    }

    pub(super) fn is_same(&self, one: &Fd, other: &Fd) -> wasmtime::Result<bool> {
        let node = |fd: &Fd| {
            let own = Resource::<OpenNode>::new_borrow(fd.rep());
            self.table.get(&own).map(|open| {
                let stat = open.handle.stat();
                (stat.device, stat.node)
            })
        };
        Ok(node(one)? == node(other)?)
    }
}
