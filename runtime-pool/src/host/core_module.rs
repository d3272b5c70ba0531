//! Components that run as their core module: imports of the module are defined here, with lifting and
//! lowering of our own, instead of by the engine's component layer. An instance costs about half as much.
//!
//! What a function does is the same code as for a component; only what comes between the guest and
//! it is here. `code::core_module` decides which components are simple enough.

mod abi;
mod allocate;
mod call;
mod cli;
mod guest;
mod handles;
mod http;
mod io;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use wasmtime::{
    Engine, Extern, ExternType, Func, FuncType, Instance, InstancePre, Linker, Module,
    ModuleExport, Store, ValType, bail, format_err,
};

use self::call::Functions;
pub(crate) use self::guest::{CoreHost, CountedInstance, InstanceCount, core_store};

/// The versions of WASI by which imports are found at once.
const VERSIONS: std::ops::RangeInclusive<u32> = 0..=12;
/// The interface by which a guest is given requests.
const HANDLER: &str = "wasi:http/incoming-handler@0.2.";
const MEMORY: &str = "memory";
const ALLOCATOR: &str = "cabi_realloc";

/// A core module whose imports are resolved, and what the host needs of its exports.
pub(crate) struct CorePre {
    pre: InstancePre<CoreHost>,
    memory: ModuleExport,
    handler: ModuleExport,
    allocator: Option<ModuleExport>,
    instances: Arc<InstanceCount>,
}

impl CorePre {
    pub(crate) fn engine(&self) -> &Engine {
        self.pre.module().engine()
    }

    /// Counts an instance that is about to be made. None if there are as many as may be.
    pub(crate) fn count(&self) -> Option<CountedInstance> {
        self.instances.take()
    }

    /// Makes an instance. Returns its function for requests.
    pub(crate) async fn instantiate(&self, store: &mut Store<CoreHost>) -> wasmtime::Result<Func> {
        let instance = self.instance(store).await?;
        let handler = instance.get_module_export(store, &self.handler);
        let handler = handler.and_then(Extern::into_func);
        handler.ok_or_else(|| format_err!("no function for requests"))
    }

    async fn instance(&self, store: &mut Store<CoreHost>) -> wasmtime::Result<Instance> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let memory = instance.get_module_export(&mut *store, &self.memory);
        let allocator = self.allocator.as_ref();
        let allocator =
            allocator.and_then(|export| instance.get_module_export(&mut *store, export));
        let guest = &mut store.data_mut().guest;
        guest.memory = memory.and_then(Extern::into_memory);
        guest.allocator = allocator.and_then(Extern::into_func);
        Ok(instance)
    }
}

/// A linker with every function that is served, in each version of its interface.
pub(crate) fn core_linker(engine: &Engine) -> wasmtime::Result<Linker<CoreHost>> {
    let mut linker = Linker::new(engine);
    add_functions(&mut Functions::Linker(&mut linker))?;
    for interface in interfaces() {
        for version in VERSIONS {
            linker.alias_module(interface, &format!("{interface}@0.2.{version}"))?;
        }
    }
    Ok(linker)
}

/// The interface and the name of each function that is served.
pub(crate) fn served_functions() -> Vec<(&'static str, &'static str)> {
    let mut functions = Functions::Names(Vec::new());
    let added = add_functions(&mut functions);
    match (added, functions) {
        (Ok(()), Functions::Names(names)) => names,
        _ => Vec::new(),
    }
}

fn interfaces() -> BTreeSet<&'static str> {
    served_functions().into_iter().map(|(interface, _)| interface).collect()
}

fn add_functions(functions: &mut Functions<'_>) -> wasmtime::Result<()> {
    http::add_functions(functions)?;
    io::add_functions(functions)?;
    cli::add_functions(functions)
}

/// Resolves the imports of a module.
pub(crate) fn link(
    linker: &Linker<CoreHost>,
    module: &Module,
    instances: &Arc<InstanceCount>,
) -> wasmtime::Result<CorePre> {
    let pre = match newer_interfaces(module) {
        newer if newer.is_empty() => linker.instantiate_pre(module)?,
        newer => {
            let mut linker = linker.clone();
            for (interface, name) in newer {
                linker.alias_module(interface, &name)?;
            }
            linker.instantiate_pre(module)?
        }
    };
    let handler = module.exports().map(|export| export.name()).find(|name| {
        name.strip_prefix(HANDLER).is_some_and(|version| version.ends_with("#handle"))
    });
    let handler = handler.ok_or_else(|| format_err!("no function for requests"))?;
    let memory = module.get_export(MEMORY);
    if !matches!(&memory, Some(ExternType::Memory(memory)) if !memory.is_64() && !memory.is_shared())
    {
        bail!("no memory of 32 bits");
    }
    let export = |name: &str, parameters, results| {
        let ty = module.get_export(name);
        let expected = FuncType::new(
            module.engine(),
            std::iter::repeat_n(ValType::I32, parameters),
            std::iter::repeat_n(ValType::I32, results),
        );
        match (ty, module.get_export_index(name)) {
            (Some(ExternType::Func(ty)), Some(index)) if ty.matches(&expected) => Ok(index),
            _ => Err(format_err!("`{name}` is not the function that it should be")),
        }
    };
    let allocator = module.get_export(ALLOCATOR).map(|_| export(ALLOCATOR, 4, 1)).transpose()?;
    Ok(CorePre {
        memory: module.get_export_index(MEMORY).ok_or_else(|| format_err!("no memory"))?,
        handler: export(handler, 2, 0)?,
        allocator,
        instances: Arc::clone(instances),
        pre,
    })
}

/// Interfaces of a version that the linker does not have: later ones of 0.2 have the same functions.
fn newer_interfaces(module: &Module) -> BTreeSet<(&'static str, String)> {
    let newer = |name: &str| {
        let (interface, version) = name.split_once("@0.2.")?;
        let known = version.parse().is_ok_and(|version| VERSIONS.contains(&version));
        (!known).then(|| (interface.to_owned(), name.to_owned()))
    };
    let newer: BTreeSet<_> = module.imports().filter_map(|import| newer(import.module())).collect();
    if newer.is_empty() {
        return BTreeSet::new();
    }
    let served = interfaces();
    let served = |(interface, name): (String, String)| Some((*served.get(&*interface)?, name));
    newer.into_iter().filter_map(served).collect()
}
