//! Preview1's functions of open files and directories.

use std::time::Duration;

use super::{
    abi::{Call, GuestBuffers, Outcome, put, slice_mut},
    descriptors::{Descriptor, DescriptorKind, STREAMS},
};
use crate::host::files::{
    node::{Stat, now},
    refused::{CallFailure, PosixRefusal},
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
    Err(PosixRefusal::Unsupported.into())
}

pub(super) fn fd_close(call: &mut Call<'_>, fd: u32) -> Outcome {
    call.files.remove(fd)?;
    Ok(())
}

pub(super) fn fd_datasync(call: &mut Call<'_>, fd: u32) -> Outcome {
    fd_sync(call, fd)
}

/// Nothing is written to a disk.
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
        return Err(PosixRefusal::Invalid.into());
    }
    call.files.file(fd)?.flags = flags;
    Ok(())
}

pub(super) fn fd_fdstat_set_rights(call: &mut Call<'_>, fd: u32, _: u64, _: u64) -> Outcome {
    call.files.get(fd)?;
    Err(PosixRefusal::Unsupported.into())
}

pub(super) fn fd_filestat_get(call: &mut Call<'_>, fd: u32, stat: u32) -> Outcome {
    let found = call.files.get(fd)?.handle.stat();
    put_stat(call.memory, stat, &found)
}

pub(super) fn fd_filestat_set_size(call: &mut Call<'_>, fd: u32, size: u64) -> Outcome {
    let open = call.files.file(fd)?;
    if !open.writable {
        return Err(PosixRefusal::Invalid.into());
    }
    Ok(open.handle.set_size(size)?)
}

pub(super) fn fd_filestat_set_times(
    call: &mut Call<'_>,
    fd: u32,
    accessed: u64,
    modified: u64,
    flags: u32,
) -> Outcome {
    let (accessed, modified) = times(accessed, modified, flags)?;
    Ok(call.files.get(fd)?.handle.set_times(None, accessed, modified)?)
}

pub(super) async fn fd_pread(
    call: &mut Call<'_>,
    fd: u32,
    parts: u32,
    count: u32,
    offset: u64,
    read: u32,
) -> Outcome {
    let open = call.files.file(fd)?;
    let done = read_at(call.memory, open, offset, (parts, count)).await?;
    put(call.memory, read, &done.to_le_bytes())
}

pub(super) async fn fd_read(
    call: &mut Call<'_>,
    fd: u32,
    parts: u32,
    count: u32,
    read: u32,
) -> Outcome {
    let open = call.files.file(fd)?;
    let done = read_at(call.memory, open, open.position, (parts, count)).await?;
    open.position += u64::from(done);
    put(call.memory, read, &done.to_le_bytes())
}

async fn read_at(
    memory: &mut [u8],
    open: &Descriptor,
    mut offset: u64,
    parts: (u32, u32),
) -> Result<u32, CallFailure> {
    if !open.readable {
        return Err(PosixRefusal::BadDescriptor.into());
    }
    let mut buffers = GuestBuffers::new(parts);
    while let Some(buffer) = buffers.next(memory)? {
        let done = open.handle.read_into(offset, buffer).await;
        offset += done.map_or(0, |done| done as u64);
        buffers.used(done)?;
    }
    Ok(buffers.done())
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
        return Err(PosixRefusal::BadDescriptor.into());
    }
    let append = open.flags & APPEND != 0;
    let mut buffers = GuestBuffers::new(parts);
    while let Some(buffer) = buffers.next(memory)? {
        let written = open.handle.write((!append).then_some(offset), buffer);
        buffers.used(written.map(|(done, end)| {
            offset = end;
            done
        }))?;
    }
    Ok((buffers.done(), offset))
}

pub(super) fn fd_prestat_get(call: &mut Call<'_>, fd: u32, stat: u32) -> Outcome {
    let open = call.files.get(fd)?;
    if open.kind != DescriptorKind::Preopened {
        return Err(PosixRefusal::BadDescriptor.into());
    }
    let mut bytes = [0; 8];
    bytes[4..].copy_from_slice(&(open.handle.mount().len() as u32).to_le_bytes());
    put(call.memory, stat, &bytes)
}

pub(super) fn fd_prestat_dir_name(call: &mut Call<'_>, fd: u32, name: u32, length: u32) -> Outcome {
    let open = call.files.get(fd)?;
    if open.kind != DescriptorKind::Preopened {
        return Err(PosixRefusal::NotDirectory.into());
    }
    let mount = open.handle.mount();
    if (length as usize) < mount.len() {
        return Err(PosixRefusal::NameTooLong.into());
    }
    put(call.memory, name, mount.as_bytes())
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
    let own = handle.stat().node;
    let into = slice_mut(call.memory, buffer, length as usize)?;
    let mut at = 0;
    // Whether there is room for more.
    let mut write = |next: u64, name: &str, node, is_directory| {
        let mut head = [0; 24];
        head[..8].copy_from_slice(&next.to_le_bytes());
        head[8..16].copy_from_slice(&inode(node).to_le_bytes());
        head[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
        head[20] = file_type(is_directory);
        for part in [&head[..], name.as_bytes()] {
            let fits = part.len().min(into.len() - at);
            into[at..at + fits].copy_from_slice(&part[..fits]);
            at += fits;
        }
        at < into.len()
    };
    let dots = DOTS.into_iter().zip(1..).skip(usize::try_from(cookie).unwrap_or(usize::MAX));
    let room = dots.fold(true, |room, (name, next)| room && write(next, name, own, true));
    // The cookie of an entry is that of the next one: its place, after the two.
    let (dots, room) = (DOTS.len() as u64, room);
    let mut listed = Ok(());
    if room {
        listed = handle.entries(cookie.saturating_sub(dots), |entry| {
            write(entry.place + dots + 1, entry.name, entry.node, entry.is_directory)
        });
    }
    listed?;
    put(call.memory, used, &(at as u32).to_le_bytes())
}

/// A standard stream cannot become a file, because the library has them.
pub(super) fn fd_renumber(call: &mut Call<'_>, fd: u32, to: u32) -> Outcome {
    if to < STREAMS {
        return Err(PosixRefusal::Unsupported.into());
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
        2 => open.handle.stat().size,
        _ => return Err(PosixRefusal::Invalid.into()),
    };
    open.position = from.checked_add_signed(offset.cast_signed()).ok_or(PosixRefusal::Invalid)?;
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
    let node = inode(stat.node);
    // Each field in eight bytes.
    let fields = [stat.device, node, file_type, stat.links, stat.size, accessed, modified, changed];
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
) -> Result<(Option<Duration>, Option<Duration>), PosixRefusal> {
    let chosen = |time, flags: u32| match flags & 3 {
        0 => Ok(None),
        1 => Ok(Some(Duration::from_nanos(time))),
        2 => Ok(Some(now())),
        _ => Err(PosixRefusal::Invalid),
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
