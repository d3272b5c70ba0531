//! How preview1 passes arguments and results: numbers and structs in the guest's memory.

use super::descriptors::Descriptors;
use crate::host::scratch::{
    path::PATH_BYTES,
    refused::{CallFailure, Refused},
};

pub(super) const NOT_PERMITTED: i32 = 63;
/// Buffers of one call that are looked at, as on Linux. A call may read or write less than it is asked
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
        Err(CallFailure::Refused(refused)) => Ok(errno(refused)),
        Err(CallFailure::Trap(error)) => Err(error),
    }
}

fn errno(refused: Refused) -> i32 {
    match refused {
        Refused::BadDescriptor => 8,
        Refused::Exists => 20,
        Refused::FileTooLarge => 22,
        Refused::IllegalBytes => 25,
        Refused::Invalid => 28,
        Refused::IsDirectory => 31,
        Refused::TooManyOpen => 33,
        Refused::NameTooLong => 37,
        Refused::NoEntry => 44,
        Refused::NoSpace => 51,
        Refused::NotDirectory => 54,
        Refused::NotEmpty => 55,
        Refused::Unsupported => 58,
        Refused::Overflow => 61,
        Refused::NotPermitted => NOT_PERMITTED,
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
        return Err(Refused::NameTooLong.into());
    }
    let path = str::from_utf8(slice(memory, address, length)?);
    path.map_err(|_| Refused::IllegalBytes.into())
}

/// Passes the guest's buffers to `each`, one after the other, until `each` uses less than a whole one.
/// Returns the bytes of all.
pub(super) fn buffers(
    memory: &mut [u8],
    (address, count): (u32, u32),
    mut each: impl FnMut(&mut [u8]) -> Result<usize, Refused>,
) -> Result<u32, CallFailure> {
    let mut done = 0;
    for n in 0..count.min(BUFFERS) {
        let entry = address.checked_add(8 * n).ok_or(Refused::Overflow)?;
        let entry = slice(memory, entry, 8)?;
        let (start, length) = (number(&entry[..4]), number(&entry[4..]) as usize);
        let length = length.min(CALL_BYTES - done);
        let used = match each(slice_mut(memory, start, length)?) {
            Ok(used) => used,
            // What was done before counts.
            Err(_) if done > 0 => break,
            Err(refused) => return Err(refused.into()),
        };
        done += used;
        if used < length || done == CALL_BYTES {
            break;
        }
    }
    Ok(u32::try_from(done).expect("it is at most CALL_BYTES"))
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
