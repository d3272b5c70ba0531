//! `wasi:cli`, `wasi:clocks` and `wasi:random` 0.2.

use wasmtime::component::Resource;
use wasmtime_wasi::{
    cli::WasiCliView as _,
    clocks::WasiClocksView as _,
    p2::{
        DynInputStream, DynOutputStream, DynPollable,
        bindings::{
            cli::{
                environment::Host as _,
                stderr::Host as _,
                stdin::Host as _,
                stdout::Host as _,
                terminal_input::{HostTerminalInput, TerminalInput},
                terminal_output::{HostTerminalOutput, TerminalOutput},
                terminal_stderr::Host as _,
                terminal_stdin::Host as _,
                terminal_stdout::Host as _,
            },
            clocks::{
                monotonic_clock::Host as MonotonicClock,
                wall_clock::{Datetime, Host as WallClock},
            },
            random::{insecure::Host as _, insecure_seed::Host as _, random::Host as _},
        },
    },
    random::WasiRandomView as _,
};

use crate::host::{
    core_module::{
        abi::{Own, record},
        call::{Functions, Interface},
        handles::{HeldByGuest, ResourceKind},
    },
    interfaces::{exit, exit_with_code},
};

impl HeldByGuest for TerminalInput {
    const KIND: ResourceKind = ResourceKind::TerminalInput;
}

impl HeldByGuest for TerminalOutput {
    const KIND: ResourceKind = ResourceKind::TerminalOutput;
}

record!(Datetime { seconds: u64, nanoseconds: u32 });

pub(super) fn add_functions(functions: &mut Functions<'_>) -> wasmtime::Result<()> {
    program(functions)?;
    terminals(functions)?;
    clocks(functions)?;
    random(functions)
}

fn program(functions: &mut Functions<'_>) -> wasmtime::Result<()> {
    Interface { name: "wasi:cli/environment", functions }
        .call::<fn(u32), _, _>("get-environment", |host, ()| host.variables().get_environment())?
        .call::<fn(u32), _, _>("get-arguments", |host, ()| host.variables().get_arguments())?
        .call::<fn(u32), _, _>("initial-cwd", |host, ()| host.variables().initial_cwd())?;
    Interface { name: "wasi:cli/exit", functions }
        .call::<fn(u32), _, ()>("exit", |_, (status,): (Result<(), ()>,)| exit(status))?
        .call::<fn(u32), _, ()>("exit-with-code", |_, (status,): (u8,)| exit_with_code(status))?;
    Interface { name: "wasi:cli/stdin", functions }
        .call::<fn() -> u32, _, Resource<DynInputStream>>("get-stdin", |host, ()| {
            host.cli().get_stdin()
        })?;
    Interface { name: "wasi:cli/stdout", functions }
        .call::<fn() -> u32, _, Resource<DynOutputStream>>("get-stdout", |host, ()| {
            host.cli().get_stdout()
        })?;
    Interface { name: "wasi:cli/stderr", functions }
        .call::<fn() -> u32, _, Resource<DynOutputStream>>("get-stderr", |host, ()| {
            host.cli().get_stderr()
        })?;
    Ok(())
}

fn terminals(functions: &mut Functions<'_>) -> wasmtime::Result<()> {
    Interface { name: "wasi:cli/terminal-input", functions }
        .call::<fn(u32), _, ()>("[resource-drop]terminal-input", |host, (Own(terminal),)| {
            HostTerminalInput::drop(&mut host.cli(), terminal)
        })?;
    Interface { name: "wasi:cli/terminal-output", functions }
        .call::<fn(u32), _, ()>("[resource-drop]terminal-output", |host, (Own(terminal),)| {
            HostTerminalOutput::drop(&mut host.cli(), terminal)
        })?;
    Interface { name: "wasi:cli/terminal-stdin", functions }
        .call::<fn(u32), _, _>("get-terminal-stdin", |host, ()| host.cli().get_terminal_stdin())?;
    Interface { name: "wasi:cli/terminal-stdout", functions }
        .call::<fn(u32), _, _>("get-terminal-stdout", |host, ()| {
            host.cli().get_terminal_stdout()
        })?;
    Interface { name: "wasi:cli/terminal-stderr", functions }
        .call::<fn(u32), _, _>("get-terminal-stderr", |host, ()| {
            host.cli().get_terminal_stderr()
        })?;
    Ok(())
}

fn clocks(functions: &mut Functions<'_>) -> wasmtime::Result<()> {
    Interface { name: "wasi:clocks/monotonic-clock", functions }
        .call::<fn() -> u64, _, _>("now", |host, ()| MonotonicClock::now(&mut host.clocks()))?
        .call::<fn() -> u64, _, _>("resolution", |host, ()| {
            MonotonicClock::resolution(&mut host.clocks())
        })?
        .call::<fn(u64) -> u32, _, Resource<DynPollable>>(
            "subscribe-instant",
            |host, (when,): (u64,)| host.clocks().subscribe_instant(when),
        )?
        .call::<fn(u64) -> u32, _, Resource<DynPollable>>(
            "subscribe-duration",
            |host, (duration,): (u64,)| host.clocks().subscribe_duration(duration),
        )?;
    Interface { name: "wasi:clocks/wall-clock", functions }
        .call::<fn(u32), _, Datetime>("now", |host, ()| WallClock::now(&mut host.clocks()))?
        .call::<fn(u32), _, Datetime>("resolution", |host, ()| {
            WallClock::resolution(&mut host.clocks())
        })?;
    Ok(())
}

fn random(functions: &mut Functions<'_>) -> wasmtime::Result<()> {
    Interface { name: "wasi:random/random", functions }
        .call::<fn(u64, u32), _, Vec<u8>>("get-random-bytes", |host, (length,): (u64,)| {
            host.random().get_random_bytes(length)
        })?
        .call::<fn() -> u64, _, _>("get-random-u64", |host, ()| host.random().get_random_u64())?;
    Interface { name: "wasi:random/insecure", functions }
        .call::<fn(u64, u32), _, Vec<u8>>(
            "get-insecure-random-bytes",
            |host, (length,): (u64,)| host.random().get_insecure_random_bytes(length),
        )?
        .call::<fn() -> u64, _, _>("get-insecure-random-u64", |host, ()| {
            host.random().get_insecure_random_u64()
        })?;
    Interface { name: "wasi:random/insecure-seed", functions }
        .call::<fn(u32), _, (u64, u64)>("insecure-seed", |host, ()| {
            host.random().insecure_seed()
        })?;
    Ok(())
}
