//! Preview1's functions of open files and directories.

use std::time::Duration;

use super::{
    abi::{Call, Outcome, buffers, put, slice_mut},
    descriptors::{Descriptor, DescriptorKind, STREAMS},
};
use crate::host::scratch::{
    MOUNT,
    refused::{CallFailure, Refused},
    tree::node::{Stat, now},
};

/// Preview1's `fdflags`.
pub(super) const APPEND: u32 = 1;
const SYNC_FLAGS: u32 = 2 | 8 | 16;
/// Preview1's `rights` of a file and of a directory: guests look at them before they try.
const READ_RIGHTS: u64 = 1 << 1;
const WRITE_RIGHTS: u64 = 1 << 6;
const FILE_RIGHTS: u64 =
    1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 27;
const DIRECTORY_RIGHTS: u64 = 1 << 9
    | 1 << 10
    | 1 << 13
    | 1 << 14
    | 1 << 16
    | 1 << 17
    | 1 << 18
    | 1 << 20
    | 1 << 21
    | 1 << 23
    | 1 << 25
    | 1 << 26;
/// Preview1's `filetype`.
const DIRECTORY: u8 = 3;
const REGULAR_FILE: u8 = 4;
/// Entries of a directory begin with `.` and `..`.
const DOTS: [&str; 2] = [".", ".."];

pub(super) fn fd_advise(call: &mut Call<'_>, fd: u32, _: u64, _: u64, _: u32) -> Outcome {
    call.files.file(fd)?;
    Ok(())
}

pub(super) fn fd_allocate(call: &mut Call<'_>, fd: u32, _: u64, _: u64) -> Outcome {
    call.files.file(fd)?;
    Err(Refused::Unsupported.into())
}

pub(super) fn fd_close(call: &mut Call<'_>, fd: u32) -> Outcome {
    call.files.remove(fd)?;
    Ok(())
}

pub(super) fn fd_datasync(call: &mut Call<'_>, fd: u32) -> Outcome {
    fd_sync(call, fd)
}

/// There is no disk.
pub(super) fn fd_sync(call: &mut Call<'_>, fd: u32) -> Outcome {
    call.files.get(fd)?;
    Ok(())
}

pub(super) fn fd_fdstat_get(call: &mut Call<'_>, fd: u32, stat: u32) -> Outcome {
    let open = call.files.get(fd)?;
    let if_set = |set: bool, rights| if set { rights } else { 0 };
    let (file_type, rights, inheriting) = match open.kind {
        DescriptorKind::File => {
            let mode = if_set(open.readable, READ_RIGHTS) | if_set(open.writable, WRITE_RIGHTS);
            (REGULAR_FILE, FILE_RIGHTS | mode, 0)
        }
        DescriptorKind::Directory | DescriptorKind::Preopened => {
            let all = DIRECTORY_RIGHTS | FILE_RIGHTS | READ_RIGHTS | WRITE_RIGHTS;
            (DIRECTORY, DIRECTORY_RIGHTS, all)
        }
    };
    let mut bytes = [0; 24];
    bytes[0] = file_type;
    bytes[2..4].copy_from_slice(&(open.flags as u16).to_le_bytes());
    bytes[8..16].copy_from_slice(&rights.to_le_bytes());
    bytes[16..].copy_from_slice(&u64::to_le_bytes(inheriting));
    put(call.memory, stat, &bytes)
}

pub(super) fn fd_fdstat_set_flags(call: &mut Call<'_>, fd: u32, flags: u32) -> Outcome {
    if flags & SYNC_FLAGS != 0 {
        return Err(Refused::Invalid.into());
    }
    call.files.file(fd)?.flags = flags;
    Ok(())
}

pub(super) fn fd_fdstat_set_rights(call: &mut Call<'_>, fd: u32, _: u64, _: u64) -> Outcome {
    call.files.get(fd)?;
    Err(Refused::Unsupported.into())
}

pub(super) fn fd_filestat_get(call: &mut Call<'_>, fd: u32, stat: u32) -> Outcome {
    let handle = &call.files.get(fd)?.handle;
    let found = handle.tree().stat(handle.node);
    put_stat(call.memory, stat, &found)
}

pub(super) fn fd_filestat_set_size(call: &mut Call<'_>, fd: u32, size: u64) -> Outcome {
    let open = call.files.file(fd)?;
    if !open.writable {
        return Err(Refused::Invalid.into());
    }
    Ok(open.handle.tree().set_size(open.handle.node, size)?)
}

pub(super) fn fd_filestat_set_times(
    call: &mut Call<'_>,
    fd: u32,
    accessed: u64,
    modified: u64,
    flags: u32,
) -> Outcome {
    let (accessed, modified) = times(accessed, modified, flags)?;
    let handle = &call.files.get(fd)?.handle;
    handle.tree().set_times(handle.node, accessed, modified);
    Ok(())
}

pub(super) fn fd_pread(
    call: &mut Call<'_>,
    fd: u32,
    parts: u32,
    count: u32,
    offset: u64,
    read: u32,
) -> Outcome {
    let open = call.files.file(fd)?;
    let done = read_at(call.memory, open, offset, (parts, count))?;
    put(call.memory, read, &done.to_le_bytes())
}

pub(super) fn fd_read(call: &mut Call<'_>, fd: u32, parts: u32, count: u32, read: u32) -> Outcome {
    let open = call.files.file(fd)?;
    let done = read_at(call.memory, open, open.position, (parts, count))?;
    open.position += u64::from(done);
    put(call.memory, read, &done.to_le_bytes())
}

fn read_at(
    memory: &mut [u8],
    open: &Descriptor,
    mut offset: u64,
    parts: (u32, u32),
) -> Result<u32, CallFailure> {
    if !open.readable {
        return Err(Refused::BadDescriptor.into());
    }
    buffers(memory, parts, |buffer| {
        let done = open.handle.tree().read(open.handle.node, offset, buffer)?;
        offset += done as u64;
        Ok(done)
    })
}

pub(super) fn fd_pwrite(
    call: &mut Call<'_>,
    fd: u32,
    parts: u32,
    count: u32,
    offset: u64,
    written: u32,
) -> Outcome {
    let open = call.files.file(fd)?;
    let (done, _) = write_at(call.memory, open, offset, (parts, count))?;
    put(call.memory, written, &done.to_le_bytes())
}

pub(super) fn fd_write(
    call: &mut Call<'_>,
    fd: u32,
    parts: u32,
    count: u32,
    written: u32,
) -> Outcome {
    let open = call.files.file(fd)?;
    let (done, end) = write_at(call.memory, open, open.position, (parts, count))?;
    open.position = end;
    put(call.memory, written, &done.to_le_bytes())
}

/// Writes at an offset or, as on Linux, at the end of a file that was opened to append. Also returns
/// where the write ended.
fn write_at(
    memory: &mut [u8],
    open: &Descriptor,
    mut offset: u64,
    parts: (u32, u32),
) -> Result<(u32, u64), CallFailure> {
    if !open.writable {
        return Err(Refused::BadDescriptor.into());
    }
    let append = open.flags & APPEND != 0;
    let done = buffers(memory, parts, |buffer| {
        let at = (!append).then_some(offset);
        let (done, end) = open.handle.tree().write(open.handle.node, at, buffer)?;
        offset = end;
        Ok(done)
    })?;
    Ok((done, offset))
}

pub(super) fn fd_prestat_get(call: &mut Call<'_>, fd: u32, stat: u32) -> Outcome {
    if call.files.get(fd)?.kind != DescriptorKind::Preopened {
        return Err(Refused::BadDescriptor.into());
    }
    let mut bytes = [0; 8];
    bytes[4..].copy_from_slice(&(MOUNT.len() as u32).to_le_bytes());
    put(call.memory, stat, &bytes)
}

pub(super) fn fd_prestat_dir_name(call: &mut Call<'_>, fd: u32, name: u32, length: u32) -> Outcome {
    if call.files.get(fd)?.kind != DescriptorKind::Preopened {
        return Err(Refused::NotDirectory.into());
    }
    if (length as usize) < MOUNT.len() {
        return Err(Refused::NameTooLong.into());
    }
    put(call.memory, name, MOUNT.as_bytes())
}

/// Writes as many entries as fit, the last of them in part: the guest then knows that there are more.
pub(super) fn fd_readdir(
    call: &mut Call<'_>,
    fd: u32,
    buffer: u32,
    length: u32,
    cookie: u64,
    used: u32,
) -> Outcome {
    let handle = call.files.directory(fd)?;
    let tree = handle.tree();
    let dots = DOTS.into_iter().zip(1..).skip(usize::try_from(cookie).unwrap_or(usize::MAX));
    let dots = dots.map(|(name, next)| (next, name, handle.node, true));
    // The cookie of an entry is that of the next one: its place, after the two.
    let entries = tree.entries(handle.node, cookie.saturating_sub(DOTS.len() as u64))?;
    let entries = entries.map(|(place, name, node, is_directory)| {
        (place + DOTS.len() as u64 + 1, name, node, is_directory)
    });
    let into = slice_mut(call.memory, buffer, length as usize)?;
    let mut at = 0;
    for (next, name, node, is_directory) in dots.chain(entries) {
        let mut head = [0; 24];
        head[..8].copy_from_slice(&u64::to_le_bytes(next));
        head[8..16].copy_from_slice(&inode(node).to_le_bytes());
        head[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
        head[20] = file_type(is_directory);
        for part in [&head[..], name.as_bytes()] {
            let fits = part.len().min(into.len() - at);
            into[at..at + fits].copy_from_slice(&part[..fits]);
            at += fits;
        }
        if at == into.len() {
            break;
        }
    }
    drop(tree);
    put(call.memory, used, &(at as u32).to_le_bytes())
}

/// A standard stream cannot become a file, because the library has them.
pub(super) fn fd_renumber(call: &mut Call<'_>, fd: u32, to: u32) -> Outcome {
    if to < STREAMS {
        return Err(Refused::Unsupported.into());
    }
    Ok(call.files.renumber(fd, to)?)
}

pub(super) fn fd_seek(
    call: &mut Call<'_>,
    fd: u32,
    offset: u64,
    whence: u32,
    position: u32,
) -> Outcome {
    let open = call.files.file(fd)?;
    let from = match whence {
        0 => 0,
        1 => open.position,
        2 => open.handle.tree().stat(open.handle.node).size,
        _ => return Err(Refused::Invalid.into()),
    };
    open.position = from.checked_add_signed(offset.cast_signed()).ok_or(Refused::Invalid)?;
    put(call.memory, position, &open.position.to_le_bytes())
}

pub(super) fn fd_tell(call: &mut Call<'_>, fd: u32, position: u32) -> Outcome {
    let at = call.files.file(fd)?.position;
    put(call.memory, position, &at.to_le_bytes())
}

/// Writes a `filestat`.
pub(super) fn put_stat(memory: &mut [u8], address: u32, stat: &Stat) -> Outcome {
    let mut bytes = [0; 64];
    let times = [stat.times.accessed, stat.times.modified, stat.times.changed];
    let [accessed, modified, changed] = times.map(|time| time.as_nanos() as u64);
    let file_type = u64::from(file_type(stat.is_directory));
    // One device, and each field in eight bytes.
    let fields =
        [1, inode(stat.node), file_type, stat.links, stat.size, accessed, modified, changed];
    for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    put(memory, address, &bytes)
}

/// The times to set: those given, the present, or neither.
pub(super) fn times(
    accessed: u64,
    modified: u64,
    flags: u32,
) -> Result<(Option<Duration>, Option<Duration>), Refused> {
    let chosen = |time, flags: u32| match flags & 3 {
        0 => Ok(None),
        1 => Ok(Some(Duration::from_nanos(time))),
        2 => Ok(Some(now())),
        _ => Err(Refused::Invalid),
    };
    Ok((chosen(accessed, flags)?, chosen(modified, flags >> 2)?))
}

fn file_type(is_directory: bool) -> u8 {
    if is_directory { DIRECTORY } else { REGULAR_FILE }
}

/// Not 0, which some programs take for no file.
fn inode(node: u32) -> u64 {
    u64::from(node) + 1
}
