//! Reading what a guest hands to the host, and writing what the host hands to it.

use wasmtime::{Caller, bail, component::Resource, format_err};

use super::shape::{Abi, Shape};
use crate::host::core_module::{
    allocate::allocate,
    guest::CoreHost,
    handles::{Handles, HeldByGuest},
};

/// A type whose values a guest hands to the host.
pub(in super::super) trait Lift: Abi {
    /// From words, which are arguments of a call.
    fn from_words(lifting: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self>;

    /// From the memory at `at`, which is aligned.
    fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self>;

    /// Many of them, which lie one after the other from `at` on.
    fn load_many(
        lifting: &mut Lifting<'_>,
        at: usize,
        count: usize,
    ) -> wasmtime::Result<Vec<Self>> {
        (0..count).map(|index| Self::load(lifting, at + index * Self::SHAPE.size)).collect()
    }
}

/// A type whose values the host hands to a guest.
pub(in super::super) trait Lower: Abi {
    /// Into the memory at `at`, which is aligned.
    fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()>;

    /// As the result of a call, for types of one word.
    fn into_word(self, _: &mut Lowering<'_, '_>) -> wasmtime::Result<u64> {
        bail!("this type is not one word")
    }

    /// Many of them, one after the other from `at` on.
    fn store_many(
        list: Vec<Self>,
        lowering: &mut Lowering<'_, '_>,
        at: usize,
    ) -> wasmtime::Result<()> {
        for (index, item) in list.into_iter().enumerate() {
            item.store(lowering, at + index * Self::SHAPE.size)?;
        }
        Ok(())
    }
}

/// The arguments of a call that were not yet read.
pub(in super::super) struct Words<'a>(pub(in super::super) &'a [u64]);

impl Words<'_> {
    /// There are as many as the types say: this is checked when the functions are compiled.
    pub(in super::super) fn next(&mut self) -> u64 {
        match self.0.split_first() {
            Some((word, rest)) => {
                self.0 = rest;
                *word
            }
            None => 0,
        }
    }

    /// Takes `count` of them, which cases of different length share.
    pub(in super::super) fn split(&mut self, count: usize) -> Self {
        let (mine, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        Self(mine)
    }
}

/// The lower half of a word, which is what a guest passes in 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "the upper half is empty or not meant")]
pub(in super::super) fn low(word: u64) -> u32 {
    word as u32
}

/// What is needed to read values of a guest.
pub(in super::super) struct Lifting<'a> {
    pub(super) memory: &'a [u8],
    pub(super) handles: &'a mut Handles,
    /// Bytes that this call may still hand over in lists and texts.
    bytes_left: usize,
}

impl<'a> Lifting<'a> {
    pub(in super::super) fn new(memory: &'a [u8], handles: &'a mut Handles, bytes: usize) -> Self {
        handles.begin_call();
        Self { memory, handles, bytes_left: bytes }
    }

    pub(in super::super) fn read<const N: usize>(&self, at: usize) -> wasmtime::Result<[u8; N]> {
        let bytes = self.memory.get(at..).and_then(<[u8]>::first_chunk);
        bytes.copied().ok_or_else(|| format_err!("pointer out of bounds of memory"))
    }

    pub(super) fn read_u32(&self, at: usize) -> wasmtime::Result<u32> {
        Ok(u32::from_le_bytes(self.read(at)?))
    }

    /// Counts bytes that the host is about to copy.
    pub(super) fn spend(&mut self, bytes: Option<usize>) -> wasmtime::Result<()> {
        let left = bytes.and_then(|bytes| self.bytes_left.checked_sub(bytes));
        // `errors` knows this text.
        self.bytes_left = left.ok_or_else(|| {
            format_err!(
                "too much data is being copied between the host and the guest: fuel allocated for \
                 hostcalls has been exhausted"
            )
        })?;
        Ok(())
    }
}

/// What is needed to hand values to a guest.
pub(in super::super) struct Lowering<'a, 'b> {
    pub(in super::super) caller: &'a mut Caller<'b, CoreHost>,
}

impl Lowering<'_, '_> {
    /// Checks the address of a result, which the guest has chosen.
    pub(in super::super) fn check_place(
        &mut self,
        shape: &Shape,
        at: u32,
    ) -> wasmtime::Result<usize> {
        let at = at as usize;
        if !at.is_multiple_of(shape.align) {
            bail!("pointer not aligned");
        }
        self.place(at, shape.size).map(|_| at)
    }

    /// The memory is found anew each time: the guest may have let it grow.
    fn place(&mut self, at: usize, bytes: usize) -> wasmtime::Result<&mut [u8]> {
        let memory = self.caller.data().guest.memory;
        let memory = memory.map_or(&mut [][..], |memory| memory.data_mut(&mut *self.caller));
        memory
            .get_mut(at..)
            .and_then(|rest| rest.get_mut(..bytes))
            .ok_or_else(|| format_err!("pointer out of bounds of memory"))
    }

    pub(in super::super) fn write(&mut self, at: usize, bytes: &[u8]) -> wasmtime::Result<()> {
        self.place(at, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Memory that the guest gives for a list.
    pub(super) fn allocate(&mut self, align: usize, bytes: usize) -> wasmtime::Result<usize> {
        allocate(self.caller, align, bytes)
    }

    pub(super) fn give<T: HeldByGuest>(&mut self, resource: &Resource<T>) -> wasmtime::Result<u32> {
        self.caller.data_mut().guest.handles.give(resource)
    }
}
