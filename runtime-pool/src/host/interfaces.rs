//! The interfaces that guests may import.

use wasmtime::{
    Engine, Linker,
    component::{self, HasData},
};
use wasmtime_wasi::{I32Exit, p2, p3};
use wasmtime_wasi_io::bindings::wasi::io;

use crate::{
    error::ExitedWithError,
    host::{
        Host, ModuleHost, capabilities,
        denied_sockets::deny_sockets,
        files,
        http::{
            outgoing_body::write_responses,
            requests::watch_requests,
            short_texts::{shorten_02, shorten_03},
        },
        wasi::{preview1::tell_modules, variables::Variables},
    },
};

/// A linker with all of WASI 0.2, and with the interfaces for what is granted. Guests are denied access by an empty context (no files, no sockets),
/// not by missing imports: ordinary toolchains import interfaces that they never call.
pub(crate) fn wasi_02(engine: &Engine) -> wasmtime::Result<component::Linker<Host>> {
    let mut linker = component::Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    streams(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    p2::bindings::cli::exit::add_to_linker::<Host, ExitStatuses>(&mut linker, |_| ExitStatuses)?;
    p2::bindings::cli::environment::add_to_linker::<Host, Variables>(&mut linker, Host::variables)?;
    linker.allow_shadowing(false);
    shorten_02(&mut linker)?;
    watch_requests(&mut linker)?;
    write_responses(&mut linker)?;
    capabilities::interfaces::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// The same with files.
pub(crate) fn wasi_02_with_files(
    linker: &component::Linker<Host>,
) -> wasmtime::Result<component::Linker<Host>> {
    let mut linker = linker.clone();
    files::wasi_02::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Replaces the functions of streams by those that need the table alone. The library's own ask for the
/// WASI context, too, which is then made for nothing.
fn streams(linker: &mut component::Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    io::error::add_to_linker::<Host, Streams>(linker, Host::table)?;
    io::poll::add_to_linker::<Host, Streams>(linker, Host::table)?;
    io::streams::add_to_linker::<Host, Streams>(linker, Host::table)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Streams;

impl HasData for Streams {
    type Data<'a> = &'a mut component::ResourceTable;
}

/// A linker with all of WASI 0.2 and 0.3, and with the interfaces for what is granted.
pub(crate) fn wasi_03(engine: &Engine) -> wasmtime::Result<component::Linker<Host>> {
    let mut linker = wasi_02(engine)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    linker.allow_shadowing(true);
    p3::bindings::cli::exit::add_to_linker::<Host, ExitStatuses>(&mut linker, |_| ExitStatuses)?;
    p3::bindings::cli::environment::add_to_linker::<Host, Variables>(&mut linker, Host::variables)?;
    linker.allow_shadowing(false);
    shorten_03(&mut linker)?;
    capabilities::interfaces::add_async_to_linker(&mut linker)?;
    Ok(linker)
}

/// The same with files.
pub(crate) fn wasi_03_with_files(
    linker: &component::Linker<Host>,
) -> wasmtime::Result<component::Linker<Host>> {
    let mut linker = wasi_02_with_files(linker)?;
    files::wasi_03::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Adds what core modules may import.
pub(crate) fn preview1(linker: &mut Linker<ModuleHost>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, ModuleHost::wasi)?;
    // The library's own traps at the statuses from 126 on, which shells and programs use.
    linker.allow_shadowing(true);
    linker.func_wrap("wasi_snapshot_preview1", "proc_exit", |status: i32| {
        Err::<(), _>(wasmtime::Error::from(I32Exit(status)))
    })?;
    linker.allow_shadowing(false);
    tell_modules(linker)?;
    deny_sockets(linker)
}

/// Adds what core modules may import that have files.
pub(crate) fn preview1_with_files(
    linker: &Linker<ModuleHost>,
) -> wasmtime::Result<Linker<ModuleHost>> {
    let mut linker = linker.clone();
    files::preview1::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// The exits of components. The library's own report a status of 1 for a program that has given no
/// number.
struct ExitStatuses;

impl HasData for ExitStatuses {
    type Data<'a> = Self;
}

pub(super) fn exit(status: Result<(), ()>) -> wasmtime::Result<()> {
    Err(status.map_or_else(|()| ExitedWithError.into(), |()| I32Exit(0).into()))
}

pub(super) fn exit_with_code(status: u8) -> wasmtime::Result<()> {
    Err(I32Exit(status.into()).into())
}

impl p2::bindings::cli::exit::Host for ExitStatuses {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        exit(status)
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        exit_with_code(status)
    }
}

impl p3::bindings::cli::exit::Host for ExitStatuses {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        exit(status)
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        exit_with_code(status)
    }
}
