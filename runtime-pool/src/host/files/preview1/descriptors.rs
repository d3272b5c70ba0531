//! The descriptors of a module, but for its three standard streams.

use std::{collections::BTreeSet, sync::Arc};

use crate::host::files::{
    handle::Handle,
    mounted::{MountedFiles, MountedHandle},
    refused::PosixRefusal,
    scratch::Scratch,
};

/// The descriptors below this are the standard streams.
pub(super) const STREAMS: u32 = 3;

/// The open files and directories of a module, of which the first are those that it begins in.
pub(in crate::host) struct Descriptors {
    open: Vec<Option<Descriptor>>,
    /// Places of it that are free.
    free: BTreeSet<usize>,
    /// The most that may be open.
    most: usize,
}

/// An open file or directory.
pub(super) struct Descriptor {
    pub(super) handle: Handle,
    pub(super) kind: DescriptorKind,
    pub(super) position: u64,
    /// Preview1's `fdflags`.
    pub(super) flags: u32,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DescriptorKind {
    /// A directory that is there from the beginning.
    Preopened,
    Directory,
    File,
}

impl Descriptors {
    /// `None` for a module without files.
    pub(in crate::host) fn new(
        scratch: Option<&Scratch>,
        mounted: Option<&Arc<MountedFiles>>,
        most: usize,
    ) -> Option<Self> {
        if scratch.is_none() && mounted.is_none() {
            return None;
        }
        let mounted = mounted.map(|files| Handle::Mounted(MountedHandle::root(files)));
        let scratch = scratch.map(|scratch| Handle::Scratch(scratch.root()));
        let roots = mounted.into_iter().chain(scratch).map(|handle| {
            let kind = DescriptorKind::Preopened;
            let (readable, writable) = (true, false);
            Some(Descriptor { handle, kind, position: 0, flags: 0, readable, writable })
        });
        Some(Self { open: roots.collect(), free: BTreeSet::new(), most })
    }

    pub(super) fn get(&mut self, fd: u32) -> Result<&mut Descriptor, PosixRefusal> {
        let open = index(fd).and_then(|index| self.open.get_mut(index));
        open.and_then(Option::as_mut).ok_or(PosixRefusal::BadDescriptor)
    }

    /// A descriptor of a file.
    pub(super) fn file(&mut self, fd: u32) -> Result<&mut Descriptor, PosixRefusal> {
        let open = self.get(fd)?;
        if open.kind == DescriptorKind::File { Ok(open) } else { Err(PosixRefusal::BadDescriptor) }
    }

    /// The handle of a directory.
    pub(super) fn directory(&mut self, fd: u32) -> Result<&Handle, PosixRefusal> {
        let open = self.get(fd)?;
        if open.kind == DescriptorKind::File {
            Err(PosixRefusal::NotDirectory)
        } else {
            Ok(&open.handle)
        }
    }

    /// The handles of two directories.
    pub(super) fn directories(
        &mut self,
        one: u32,
        other: u32,
    ) -> Result<(&Handle, &Handle), PosixRefusal> {
        self.directory(one)?;
        self.directory(other)?;
        let at = |fd| index(fd).and_then(|index| self.open[index].as_ref());
        match (at(one), at(other)) {
            (Some(one), Some(other)) => Ok((&one.handle, &other.handle)),
            _ => Err(PosixRefusal::BadDescriptor),
        }
    }

    /// Gives a descriptor the lowest free number.
    pub(super) fn add(&mut self, descriptor: Descriptor) -> Result<u32, PosixRefusal> {
        let index = match self.free.pop_first() {
            Some(free) => {
                self.open[free] = Some(descriptor);
                free
            }
            None if self.open.len() >= self.most => return Err(PosixRefusal::TooManyOpen),
            None => {
                self.open.push(Some(descriptor));
                self.open.len() - 1
            }
        };
        u32::try_from(index).map(|index| STREAMS + index).map_err(|_| PosixRefusal::TooManyOpen)
    }

    /// Frees a number, and returns what it stood for.
    pub(super) fn remove(&mut self, fd: u32) -> Result<Descriptor, PosixRefusal> {
        let index = index(fd).ok_or(PosixRefusal::BadDescriptor)?;
        let open =
            self.open.get_mut(index).and_then(Option::take).ok_or(PosixRefusal::BadDescriptor)?;
        self.free.insert(index);
        Ok(open)
    }

    /// Gives what `from` stands for the number `to`, in place of what that stood for.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<(), PosixRefusal> {
        self.get(from)?;
        self.get(to)?;
        if from != to {
            let moved = self.remove(from)?;
            *self.get(to)? = moved;
        }
        Ok(())
    }
}

fn index(fd: u32) -> Option<usize> {
    fd.checked_sub(STREAMS).map(|index| index as usize)
}
