//! Preview1's functions for variables and arguments.

use wasmtime::{Caller, Extern, Linker, Trap};

use super::variables::{GuestVariables, Strings, arguments, environment, number};
use crate::host::ModuleHost;

const MODULE: &str = "wasi_snapshot_preview1";
/// Preview1's error number for success.
const SUCCESS: i32 = 0;

/// Replaces preview1's functions for variables and arguments.
pub(in crate::host) fn tell_modules(linker: &mut Linker<ModuleHost>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker
        .func_wrap(MODULE, "environ_sizes_get", |caller: Caller<'_, ModuleHost>, count, bytes| {
            sizes(caller, environment, count, bytes)
        })?
        .func_wrap(MODULE, "environ_get", |caller: Caller<'_, ModuleHost>, list, bytes| {
            strings(caller, environment, list, bytes)
        })?
        .func_wrap(MODULE, "args_sizes_get", |caller: Caller<'_, ModuleHost>, count, bytes| {
            sizes(caller, arguments, count, bytes)
        })?
        .func_wrap(MODULE, "args_get", |caller: Caller<'_, ModuleHost>, list, bytes| {
            strings(caller, arguments, list, bytes)
        })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Tells the guest how many strings there are, and how long they are together.
fn sizes(
    caller: Caller<'_, ModuleHost>,
    of: fn(&mut GuestVariables) -> Strings,
    count: u32,
    bytes: u32,
) -> wasmtime::Result<i32> {
    write(caller, |host| {
        let strings = of(&mut host.variables);
        let (number_of, length) = (number(strings.starts.len()), number(strings.bytes.len()));
        vec![(count, number_of.to_le_bytes().into()), (bytes, length.to_le_bytes().into())]
    })
}

/// Gives the guest the strings: their addresses at `list`, themselves at `bytes`.
fn strings(
    caller: Caller<'_, ModuleHost>,
    of: fn(&mut GuestVariables) -> Strings,
    list: u32,
    bytes: u32,
) -> wasmtime::Result<i32> {
    write(caller, |host| {
        let strings = of(&mut host.variables);
        let addresses = strings.starts.iter().map(|start| bytes.saturating_add(*start));
        let addresses = addresses.flat_map(u32::to_le_bytes).collect();
        vec![(list, addresses), (bytes, strings.bytes)]
    })
}

/// Writes into the guest's memory. An address outside of it is a trap, as WASI says.
fn write(
    mut caller: Caller<'_, ModuleHost>,
    what: impl FnOnce(&mut ModuleHost) -> Vec<(u32, Vec<u8>)>,
) -> wasmtime::Result<i32> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        wasmtime::bail!("missing required memory export");
    };
    let (memory, host) = memory.data_and_store_mut(&mut caller);
    for (address, bytes) in what(host) {
        let place = memory.get_mut(address as usize..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or(Trap::MemoryOutOfBounds)?.copy_from_slice(&bytes);
    }
    Ok(SUCCESS)
}
