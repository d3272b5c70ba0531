//! How preview1 passes arguments and results: numbers and structs in the guest's memory.

use super::descriptors::Descriptors;
use crate::host::files::{
    path::PATH_BYTES,
    refused::{CallFailure, PosixRefusal},
};

pub(super) const NOT_PERMITTED: i32 = 63;
/// GuestBuffers of one call that are looked at, as on Linux. A call may read or write less than it is asked
/// to, and guests then call again.
const BUFFERS: u32 = 1024;
/// Bytes of one read or write, for the same reason: copying more would keep a thread for long.
const CALL_BYTES: usize = 4 << 20;

/// What a function of ours works with.
pub(super) struct Call<'a> {
    pub(super) memory: &'a mut [u8],
    pub(super) files: &'a mut Descriptors,
}

/// The result of a function of ours.
pub(super) type Outcome = Result<(), CallFailure>;

/// The result of a call, as the guest gets it.
pub(super) fn answer(outcome: Outcome) -> wasmtime::Result<i32> {
    match outcome {
        Ok(()) => Ok(0),
        Err(CallFailure::PosixRefusal(refused)) => Ok(errno(refused)),
        Err(CallFailure::Trap(error)) => Err(error),
    }
}

fn errno(refused: PosixRefusal) -> i32 {
    match refused {
        PosixRefusal::BadDescriptor => 8,
        PosixRefusal::Exists => 20,
        PosixRefusal::FileTooLarge => 22,
        PosixRefusal::IllegalBytes => 25,
        PosixRefusal::Invalid => 28,
        PosixRefusal::Io => 29,
        PosixRefusal::IsDirectory => 31,
        PosixRefusal::TooManyOpen => 33,
        PosixRefusal::NameTooLong => 37,
        PosixRefusal::NoEntry => 44,
        PosixRefusal::NoSpace => 51,
        PosixRefusal::NotDirectory => 54,
        PosixRefusal::NotEmpty => 55,
        PosixRefusal::Unsupported => 58,
        PosixRefusal::Overflow => 61,
        PosixRefusal::NotPermitted => NOT_PERMITTED,
        PosixRefusal::ReadOnly => 69,
        PosixRefusal::CrossDevice => 75,
    }
}

/// Writes a struct or a number.
pub(super) fn put(memory: &mut [u8], address: u32, bytes: &[u8]) -> Outcome {
    slice_mut(memory, address, bytes.len())?.copy_from_slice(bytes);
    Ok(())
}

/// A path.
pub(super) fn path(memory: &[u8], address: u32, length: u32) -> Result<&str, CallFailure> {
    let length = length as usize;
    if length > PATH_BYTES {
        return Err(PosixRefusal::NameTooLong.into());
    }
    let path = str::from_utf8(slice(memory, address, length)?);
    path.map_err(|_| PosixRefusal::IllegalBytes.into())
}

/// Goes through the guest's buffers of one call, one after the other, until one is not used whole.
pub(super) struct GuestBuffers {
    address: u32,
    left: u32,
    /// The length of the last buffer.
    length: usize,
    done: usize,
}

impl GuestBuffers {
    pub(super) fn new((address, count): (u32, u32)) -> Self {
        Self { address, left: count.min(BUFFERS), length: 0, done: 0 }
    }

    /// The next buffer.
    pub(super) fn next<'a>(
        &mut self,
        memory: &'a mut [u8],
    ) -> Result<Option<&'a mut [u8]>, CallFailure> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let entry = slice(memory, self.address, 8)?;
        let (start, length) = (number(&entry[..4]), number(&entry[4..]) as usize);
        self.length = length.min(CALL_BYTES - self.done);
        if left > 0 {
            self.address = self.address.checked_add(8).ok_or(PosixRefusal::Overflow)?;
        }
        slice_mut(memory, start, self.length).map(Some)
    }

    /// Records how much of the last buffer was used.
    pub(super) fn used(&mut self, used: Result<usize, PosixRefusal>) -> Outcome {
        match used {
            Ok(used) => {
                self.done += used;
                if used < self.length || self.done == CALL_BYTES {
                    self.left = 0;
                }
            }
            // What was done before counts.
            Err(_) if self.done > 0 => self.left = 0,
            Err(refused) => return Err(refused.into()),
        }
        Ok(())
    }

    /// The bytes of all.
    pub(super) fn done(&self) -> u32 {
        u32::try_from(self.done).expect("it is at most CALL_BYTES")
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("it has four bytes"))
}

fn slice(memory: &[u8], address: u32, length: usize) -> Result<&[u8], CallFailure> {
    memory.get(address as usize..).and_then(|rest| rest.get(..length)).ok_or_else(out_of_bounds)
}

pub(super) fn slice_mut(
    memory: &mut [u8],
    address: u32,
    length: usize,
) -> Result<&mut [u8], CallFailure> {
    memory
        .get_mut(address as usize..)
        .and_then(|rest| rest.get_mut(..length))
        .ok_or_else(out_of_bounds)
}

fn out_of_bounds() -> CallFailure {
    CallFailure::Trap(wasmtime::format_err!("a pointer is outside of the guest's memory"))
}
