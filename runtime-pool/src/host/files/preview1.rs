//! Preview1's functions for files.
//!
//! They shadow the library's, in a linker of their own that only functions with files use. The library keeps the three standard streams, and every other descriptor is one of ours.

mod abi;
mod descriptors;
mod files;
mod paths;

use wasmtime::{AsContextMut as _, Caller, Extern, Linker, bail};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as library, WasiSnapshotPreview1 as _};
use wiggle::GuestMemory;

pub(in crate::host) use self::descriptors::Descriptors;
use self::{
    abi::{Call, answer},
    descriptors::STREAMS,
};
use crate::host::ModuleHost;

const MODULE: &str = "wasi_snapshot_preview1";

/// Shadows one function whose first argument is a descriptor: the library gets the calls for the
/// standard streams, and the function of the same name in `$ours` gets the others.
/// An `await` function is one of ours that may wait for the disk.
macro_rules! shadow {
    ($linker:ident, await $ours:ident::$name:ident($($argument:ident: $type:ty),*)) => {
        $linker.func_wrap_async(
            MODULE,
            stringify!($name),
            |mut caller: Caller<'_, ModuleHost>, (fd, $($argument,)*): (u32, $($type,)*)| {
                Box::new(async move {
                    let (memory, host) = parts(&mut caller)?;
                    if fd >= STREAMS {
                        return answer(
                            $ours::$name(&mut host.files(memory)?, fd, $($argument),*).await,
                        );
                    }
                    let mut memory = GuestMemory::Unshared(memory);
                    let fd = fd.cast_signed();
                    library::$name(host.wasi(), &mut memory, fd, $($argument.cast_signed()),*)
                        .await
                })
            },
        )?;
    };
    ($linker:ident, async $ours:ident::$name:ident($($argument:ident: $type:ty),*)) => {
        $linker.func_wrap_async(
            MODULE,
            stringify!($name),
            |mut caller: Caller<'_, ModuleHost>, (fd, $($argument,)*): (u32, $($type,)*)| {
                Box::new(async move {
                    let (memory, host) = parts(&mut caller)?;
                    if fd >= STREAMS {
                        return answer($ours::$name(&mut host.files(memory)?, fd, $($argument),*));
                    }
                    let mut memory = GuestMemory::Unshared(memory);
                    let fd = fd.cast_signed();
                    library::$name(host.wasi(), &mut memory, fd, $($argument.cast_signed()),*)
                        .await
                })
            },
        )?;
    };
    ($linker:ident, $ours:ident::$name:ident($($argument:ident: $type:ty),*)) => {
        $linker.func_wrap(
            MODULE,
            stringify!($name),
            |mut caller: Caller<'_, ModuleHost>, fd: u32, $($argument: $type),*| {
                let (memory, host) = parts(&mut caller)?;
                if fd >= STREAMS {
                    return answer($ours::$name(&mut host.files(memory)?, fd, $($argument),*));
                }
                let mut memory = GuestMemory::Unshared(memory);
                let fd = fd.cast_signed();
                library::$name(host.wasi(), &mut memory, fd, $($argument.cast_signed()),*)
            },
        )?;
    };
}

/// Replaces the functions for files.
pub(in crate::host) fn add_to_linker(linker: &mut Linker<ModuleHost>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    shadow!(linker, async files::fd_advise(offset: u64, length: u64, advice: u32));
    shadow!(linker, files::fd_allocate(offset: u64, length: u64));
    shadow!(linker, async files::fd_close());
    shadow!(linker, async files::fd_datasync());
    shadow!(linker, async files::fd_fdstat_get(stat: u32));
    shadow!(linker, files::fd_fdstat_set_flags(flags: u32));
    shadow!(linker, files::fd_fdstat_set_rights(base: u64, inheriting: u64));
    shadow!(linker, async files::fd_filestat_get(stat: u32));
    shadow!(linker, async files::fd_filestat_set_size(size: u64));
    shadow!(linker, async files::fd_filestat_set_times(accessed: u64, modified: u64, flags: u32));
    shadow!(linker, await files::fd_pread(parts: u32, count: u32, offset: u64, read: u32));
    shadow!(linker, files::fd_prestat_get(stat: u32));
    shadow!(linker, files::fd_prestat_dir_name(name: u32, length: u32));
    shadow!(linker, async files::fd_pwrite(parts: u32, count: u32, offset: u64, written: u32));
    shadow!(linker, await files::fd_read(parts: u32, count: u32, read: u32));
    shadow!(linker, async files::fd_readdir(buffer: u32, length: u32, cookie: u64, used: u32));
    shadow!(linker, async files::fd_renumber(to: u32));
    shadow!(linker, async files::fd_seek(offset: u64, whence: u32, position: u32));
    shadow!(linker, async files::fd_sync());
    shadow!(linker, files::fd_tell(position: u32));
    shadow!(linker, async files::fd_write(parts: u32, count: u32, written: u32));
    shadow!(linker, async paths::path_create_directory(path: u32, length: u32));
    shadow!(linker, async paths::path_filestat_get(
        flags: u32, path: u32, length: u32, stat: u32
    ));
    shadow!(linker, async paths::path_filestat_set_times(
        follow: u32, path: u32, length: u32, accessed: u64, modified: u64, flags: u32
    ));
    shadow!(linker, async paths::path_link(
        flags: u32, path: u32, length: u32, new_fd: u32, new_path: u32, new_length: u32
    ));
    shadow!(linker, async paths::path_open(
        follow: u32, path: u32, length: u32, how: u32, rights: u64, inherited: u64, flags: u32,
        opened: u32
    ));
    shadow!(linker, async paths::path_readlink(
        path: u32, length: u32, buffer: u32, buffer_length: u32, used: u32
    ));
    shadow!(linker, async paths::path_remove_directory(path: u32, length: u32));
    shadow!(linker, async paths::path_rename(
        path: u32, length: u32, new_fd: u32, new_path: u32, new_length: u32
    ));
    shadow!(linker, async paths::path_unlink_file(path: u32, length: u32));
    // Its descriptor is the third argument, and there are no links whoever asks.
    linker.func_wrap(MODULE, "path_symlink", |_: u32, _: u32, _: u32, _: u32, _: u32| {
        abi::NOT_PERMITTED
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The guest's memory and its host, which may spend as much on one call as the store allows.
fn parts<'a>(
    caller: &'a mut Caller<'_, ModuleHost>,
) -> wasmtime::Result<(&'a mut [u8], &'a mut ModuleHost)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        bail!("missing required memory export");
    };
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (memory, host) = memory.data_and_store_mut(caller);
    host.wasi().set_hostcall_fuel(fuel);
    Ok((memory, host))
}

impl ModuleHost {
    fn files<'a>(&'a mut self, memory: &'a mut [u8]) -> wasmtime::Result<Call<'a>> {
        match &mut self.files {
            Some(files) => Ok(Call { memory, files }),
            None => bail!("a module is linked for files that its host does not have"),
        }
    }
}
