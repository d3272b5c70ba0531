//! What both versions of `wasi:filesystem` do with the descriptors of a component.
//!
//! The bindings are the library's, in which a descriptor is a file or directory of the machine. Ours
//! are in the same table of resources, and only their numbers have the library's type.

use std::time::Duration;

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::filesystem::Descriptor;

use crate::host::scratch::{
    Handle, MOUNT, Scratch,
    refused::{CallFailure, Refused},
    tree::{
        ROOT,
        node::{Open, Stat},
    },
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
    /// Whether what is in a directory may be changed. A request only: everything may be.
    pub(super) mutate: bool,
}

/// The scratch directory of a component, and what it has open.
pub(in crate::host) struct ScratchView<'a> {
    pub(in crate::host) table: &'a mut ResourceTable,
    pub(in crate::host) scratch: &'a Scratch,
}

/// The bindings' name for [`ScratchView`].
pub(in crate::host) struct ScratchFiles;

impl HasData for ScratchFiles {
    type Data<'a> = ScratchView<'a>;
}

impl OpenNode {
    /// Whether this is the scratch directory itself, which a guest may keep open between two calls.
    pub(in crate::host) fn is_root(&self) -> bool {
        self.handle.node == ROOT
    }
}

impl ScratchView<'_> {
    /// The directories that are open from the beginning.
    pub(super) fn directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        let mode = Mode { read: true, write: false, mutate: true };
        let root = self.add(OpenNode { handle: self.scratch.root(), mode })?;
        Ok(vec![(root, MOUNT.to_owned())])
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
            return Err(Refused::IsDirectory.into());
        }
        if open.mode.read { Ok(&open.handle) } else { Err(Refused::BadDescriptor.into()) }
    }

    /// A file that can be written.
    pub(super) fn writable(&self, fd: &Fd) -> Result<&Handle, CallFailure> {
        let open = self.get(fd)?;
        if self.status(fd)?.is_directory {
            return Err(Refused::IsDirectory.into());
        }
        if open.mode.write { Ok(&open.handle) } else { Err(Refused::BadDescriptor.into()) }
    }

    /// A directory.
    pub(super) fn directory(&self, fd: &Fd) -> Result<&Handle, CallFailure> {
        if !self.status(fd)?.is_directory {
            return Err(Refused::NotDirectory.into());
        }
        Ok(&self.get(fd)?.handle)
    }

    pub(super) fn status(&self, fd: &Fd) -> Result<Stat, CallFailure> {
        let handle = &self.get(fd)?.handle;
        Ok(handle.tree().stat(handle.node))
    }

    pub(super) fn status_at(&self, fd: &Fd, path: &str) -> Result<Stat, CallFailure> {
        let handle = &self.get(fd)?.handle;
        Ok(handle.tree().stat_at(handle.node, path)?)
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

    pub(super) fn read_file(
        &self,
        fd: &Fd,
        length: u64,
        offset: u64,
    ) -> Result<Vec<u8>, CallFailure> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(self.readable(fd)?.read(offset, length)?)
    }

    pub(super) fn write_file(&self, fd: &Fd, data: &[u8], offset: u64) -> Result<u64, CallFailure> {
        let handle = self.writable(fd)?;
        let (written, _) = handle.tree().write(handle.node, Some(offset), data)?;
        Ok(written as u64)
    }

    pub(super) fn cut(&self, fd: &Fd, size: u64) -> Result<(), CallFailure> {
        let handle = self.writable(fd)?;
        Ok(handle.tree().set_size(handle.node, size)?)
    }

    pub(super) fn touch(
        &self,
        fd: &Fd,
        path: Option<&str>,
        accessed: Option<Duration>,
        modified: Option<Duration>,
    ) -> Result<(), CallFailure> {
        let handle = &self.get(fd)?.handle;
        let mut tree = handle.tree();
        let node = match path {
            Some(path) => tree.find(handle.node, path)?,
            None => handle.node,
        };
        tree.set_times(node, accessed, modified);
        Ok(())
    }

    pub(super) fn make_directory(&self, fd: &Fd, path: &str) -> Result<(), CallFailure> {
        let handle = &self.get(fd)?.handle;
        Ok(handle.tree().create_directory(handle.node, path)?)
    }

    pub(super) fn remove_directory(&self, fd: &Fd, path: &str) -> Result<(), CallFailure> {
        let handle = &self.get(fd)?.handle;
        Ok(handle.tree().remove_directory(handle.node, path)?)
    }

    pub(super) fn remove_file(&self, fd: &Fd, path: &str) -> Result<(), CallFailure> {
        let handle = &self.get(fd)?.handle;
        Ok(handle.tree().remove_file(handle.node, path)?)
    }

    pub(super) fn rename(
        &self,
        (fd, path): (&Fd, &str),
        (new_fd, new_path): (&Fd, &str),
    ) -> Result<(), CallFailure> {
        let (from, to) = (&self.get(fd)?.handle, &self.get(new_fd)?.handle);
        Ok(from.tree().rename((from.node, path), (to.node, new_path))?)
    }

    /// There are no links: what exists is none.
    pub(super) fn read_link(&self, fd: &Fd, path: &str) -> Result<String, CallFailure> {
        self.status_at(fd, path)?;
        Err(Refused::Invalid.into())
    }

    pub(super) fn is_same(&self, one: &Fd, other: &Fd) -> wasmtime::Result<bool> {
        let node = |fd: &Fd| {
            let own = Resource::<OpenNode>::new_borrow(fd.rep());
            self.table.get(&own).map(|open| open.handle.node)
        };
        Ok(node(one)? == node(other)?)
    }
}
