//! Preview1's functions of paths, each relative to an open directory.

use super::{
    abi::{Call, Outcome, path, put},
    descriptors::{Descriptor, DescriptorKind},
    files::{put_stat, times},
};
use crate::host::files::{node::Open, refused::PosixRefusal};

/// Preview1's `oflags`.
const CREATE: u32 = 1;
const DIRECTORY: u32 = 2;
const EXCLUSIVE: u32 = 4;
const TRUNCATE: u32 = 8;
/// Those of its `rights` that decide how a file is opened.
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 6;

pub(super) fn path_create_directory(
    call: &mut Call<'_>,
    fd: u32,
    address: u32,
    length: u32,
) -> Outcome {
    let directory = call.files.directory(fd)?;
    let path = path(call.memory, address, length)?;
    Ok(directory.create_directory(path)?)
}

pub(super) fn path_filestat_get(
    call: &mut Call<'_>,
    fd: u32,
    _follow: u32,
    address: u32,
    length: u32,
    stat: u32,
) -> Outcome {
    let directory = call.files.directory(fd)?;
    let path = path(call.memory, address, length)?;
    let found = directory.stat_at(path)?;
    put_stat(call.memory, stat, &found)
}

#[expect(clippy::too_many_arguments, reason = "they are preview1's")]
pub(super) fn path_filestat_set_times(
    call: &mut Call<'_>,
    fd: u32,
    _follow: u32,
    address: u32,
    length: u32,
    accessed: u64,
    modified: u64,
    flags: u32,
) -> Outcome {
    let (accessed, modified) = times(accessed, modified, flags)?;
    let directory = call.files.directory(fd)?;
    let path = path(call.memory, address, length)?;
    Ok(directory.set_times(Some(path), accessed, modified)?)
}

/// A file has one name.
#[expect(clippy::too_many_arguments, reason = "they are preview1's")]
pub(super) fn path_link(
    call: &mut Call<'_>,
    fd: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
) -> Outcome {
    call.files.directory(fd)?;
    Err(PosixRefusal::NotPermitted.into())
}

#[expect(clippy::too_many_arguments, reason = "they are preview1's")]
pub(super) fn path_open(
    call: &mut Call<'_>,
    fd: u32,
    _follow: u32,
    address: u32,
    length: u32,
    how: u32,
    rights: u64,
    _inherited: u64,
    flags: u32,
    opened: u32,
) -> Outcome {
    let directory = call.files.directory(fd)?;
    let path = path(call.memory, address, length)?;
    let writable = rights & WRITE != 0;
    let how = Open {
        create: how & CREATE != 0,
        exclusive: how & EXCLUSIVE != 0,
        truncate: how & TRUNCATE != 0,
        directory: how & DIRECTORY != 0,
        write: writable,
    };
    let handle = directory.open(path, how)?;
    let is_directory = handle.stat().is_directory;
    let kind = if is_directory { DescriptorKind::Directory } else { DescriptorKind::File };
    let readable = rights & READ != 0;
    let descriptor = Descriptor { handle, kind, position: 0, flags, readable, writable };
    let number = call.files.add(descriptor)?;
    put(call.memory, opened, &number.to_le_bytes())
}

/// There are no links: what exists is none.
pub(super) fn path_readlink(
    call: &mut Call<'_>,
    fd: u32,
    address: u32,
    length: u32,
    _: u32,
    _: u32,
    _: u32,
) -> Outcome {
    let directory = call.files.directory(fd)?;
    let path = path(call.memory, address, length)?;
    directory.stat_at(path)?;
    Err(PosixRefusal::Invalid.into())
}

pub(super) fn path_remove_directory(
    call: &mut Call<'_>,
    fd: u32,
    address: u32,
    length: u32,
) -> Outcome {
    let directory = call.files.directory(fd)?;
    let path = path(call.memory, address, length)?;
    Ok(directory.remove_directory(path)?)
}

pub(super) fn path_rename(
    call: &mut Call<'_>,
    fd: u32,
    address: u32,
    length: u32,
    new_fd: u32,
    new_address: u32,
    new_length: u32,
) -> Outcome {
    let (from, to) = call.files.directories(fd, new_fd)?;
    let from_path = path(call.memory, address, length)?;
    let to_path = path(call.memory, new_address, new_length)?;
    Ok(from.rename(from_path, to, to_path)?)
}

pub(super) fn path_unlink_file(call: &mut Call<'_>, fd: u32, address: u32, length: u32) -> Outcome {
    let directory = call.files.directory(fd)?;
    let path = path(call.memory, address, length)?;
    Ok(directory.remove_file(path)?)
}
