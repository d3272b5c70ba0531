//! The imports of a guest while its start-up function runs. It may import everything, because it
//! must link, but some calls trap.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use wasmtime::{
    Caller, Extern,
    component::{self, Component, Val, types::ComponentItem},
};

use super::failure::SnapshotFailure;
use crate::host::{Host, ModuleHost};

/// Interfaces whose answers hold only for one moment, one machine or one request.
const REFUSED: &[&str] = &[
    "wasi:cli/stdin@",
    "wasi:clocks/",
    "wasi:http/client@",
    "wasi:http/outgoing-handler@",
    "wasi:random/",
    "wasi:keyvalue/",
    "wasi:config/",
    "fermyon:spin/",
    "spin:",
    "mayfly:",
    "wasi:sockets/",
];
/// Answered with an empty list, so that a guest that panics can still print its message: the panic
/// handler of Rust reads a variable first.
const ENVIRONMENT: &str = "wasi:cli/environment@";

const PREVIEW1: &str = "wasi_snapshot_preview1";
const REFUSED_PREVIEW1: &[&str] = &[
    "clock_res_get",
    "clock_time_get",
    "fd_pread",
    "fd_read",
    "poll_oneoff",
    "random_get",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];
/// These write two numbers: how many there are, and how long they are together.
const COUNTS_PREVIEW1: &[&str] = &["args_sizes_get", "environ_sizes_get"];

/// The trap of a call whose answer must not be kept in an image.
#[derive(Debug)]
pub(crate) struct ForbiddenCall(String);

impl fmt::Display for ForbiddenCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "its start-up calls `{}`, and the answer would be the same in every instance",
            self.0
        )
    }
}

impl std::error::Error for ForbiddenCall {}

/// The first call that got an empty answer, where an invocation would get another one.
#[derive(Clone, Debug, Default)]
pub(crate) struct EnvironmentReads(Arc<Mutex<Option<String>>>);

impl EnvironmentReads {
    fn note(&self, name: &str) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| name.to_owned());
    }

    /// Fails if there was such a call: the guest may have kept the answer.
    pub(crate) fn check(&self) -> Result<(), SnapshotFailure> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(name) => Err(SnapshotFailure::Unfit(ForbiddenCall(name).to_string())),
            None => Ok(()),
        }
    }
}

/// Replaces functions that must not be called by traps.
pub(crate) fn refuse_in_component(
    linker: &mut component::Linker<Host>,
    component: &Component,
    environment_reads: &EnvironmentReads,
) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    linker.allow_shadowing(true);
    for (interface, item) in component.component_type().imports(&engine) {
        let refused = REFUSED.iter().any(|prefix| interface.starts_with(prefix));
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        if !refused && !interface.starts_with(ENVIRONMENT) {
            continue;
        }
        let mut linker = linker.instance(interface)?;
        for (function, item) in instance.exports(&engine) {
            let ComponentItem::ComponentFunc(ty) = item.ty else { continue };
            // Dropping a resource gives no answer.
            if function.starts_with("[resource-drop]") {
                continue;
            }
            let name = format!("{interface}#{function}");
            if !refused {
                let environment_reads = environment_reads.clone();
                linker.func_new(function, move |_, ty, _, results| {
                    environment_reads.note(&name);
                    results.iter_mut().zip(ty.results()).for_each(|(result, ty)| {
                        *result = empty_answer(&ty);
                    });
                    Ok(())
                })?;
            } else if ty.async_() {
                linker.func_new_concurrent(function, move |_, _, _, _| {
                    let name = name.clone();
                    Box::pin(async move { Err(ForbiddenCall(name).into()) })
                })?;
            } else {
                linker.func_new(function, move |_, _, _, _| {
                    Err(ForbiddenCall(name.clone()).into())
                })?;
            }
        }
    }
    Ok(())
}

/// The empty answer: no variable, no argument, no directory.
fn empty_answer(ty: &component::Type) -> Val {
    match ty {
        component::Type::Option(_) => Val::Option(None),
        _ => Val::List(Vec::new()),
    }
}

/// The same for a core module.
pub(crate) fn refuse_in_module(
    linker: &mut wasmtime::Linker<ModuleHost>,
    module: &wasmtime::Module,
    environment_reads: &EnvironmentReads,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    for import in module.imports().filter(|import| import.module() == PREVIEW1) {
        let wasmtime::ExternType::Func(ty) = import.ty() else { continue };
        let name = import.name().to_owned();
        if COUNTS_PREVIEW1.contains(&import.name()) {
            let environment_reads = environment_reads.clone();
            let counts = move |mut caller: Caller<'_, ModuleHost>, count: u32, bytes: u32| {
                environment_reads.note(&name);
                let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
                    wasmtime::bail!("missing required memory export");
                };
                for address in [count, bytes] {
                    memory.write(&mut caller, address as usize, &0_u32.to_le_bytes())?;
                }
                Ok(0_u32)
            };
            linker.func_wrap(PREVIEW1, import.name(), counts)?;
        } else if REFUSED_PREVIEW1.contains(&import.name()) {
            let refuse = move |_: Caller<'_, ModuleHost>, _: &[_], _: &mut [_]| {
                Err(ForbiddenCall(name.clone()).into())
            };
            linker.func_new(PREVIEW1, import.name(), ty, refuse)?;
        }
    }
    Ok(())
}
