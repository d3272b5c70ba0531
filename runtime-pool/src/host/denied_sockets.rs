//! Preview1's functions for sockets. No descriptor of a guest is a socket.
//!
//! Those of the engine write a line to the gateway's own log at each call, which a guest could fill.

use wasmtime::Linker;

use crate::host::ModuleHost;

const MODULE: &str = "wasi_snapshot_preview1";
/// The descriptors that exist: the three standard streams.
const STREAMS: std::ops::Range<i32> = 0..3;
/// Preview1's error numbers.
const BAD_DESCRIPTOR: i32 = 8;
const NOT_A_SOCKET: i32 = 57;

/// Replaces the functions for sockets by ones that only say no.
pub(super) fn deny_sockets(linker: &mut Linker<ModuleHost>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker
        .func_wrap(MODULE, "sock_accept", |fd: i32, _: i32, _: i32| refusal(fd))?
        .func_wrap(MODULE, "sock_recv", |fd: i32, _: i32, _: i32, _: i32, _: i32, _: i32| {
            refusal(fd)
        })?
        .func_wrap(MODULE, "sock_send", |fd: i32, _: i32, _: i32, _: i32, _: i32| refusal(fd))?
        .func_wrap(MODULE, "sock_shutdown", |fd: i32, _: i32| refusal(fd))?;
    linker.allow_shadowing(false);
    Ok(())
}

fn refusal(fd: i32) -> i32 {
    if STREAMS.contains(&fd) { NOT_A_SOCKET } else { BAD_DESCRIPTOR }
}
