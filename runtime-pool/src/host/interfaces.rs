//! The interfaces that guests may import.

use wasmtime::{Engine, Linker, component};

use crate::host::{Host, ModuleHost};

/// A linker with all of WASI 0.2. Guests are denied access by an empty context (no files, no sockets),
/// not by missing imports: ordinary toolchains import interfaces that they never call.
pub(crate) fn wasi_02(engine: &Engine) -> wasmtime::Result<component::Linker<Host>> {
    let mut linker = component::Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

/// A linker with all of WASI 0.2 and 0.3.
pub(crate) fn wasi_03(engine: &Engine) -> wasmtime::Result<component::Linker<Host>> {
    let mut linker = wasi_02(engine)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Adds what core modules may import.
pub(crate) fn preview1(linker: &mut Linker<ModuleHost>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, |host: &mut ModuleHost| &mut host.wasi)
}
