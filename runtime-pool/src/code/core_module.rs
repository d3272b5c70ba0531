//! Whether a component is no more than one core module with its imports: then the module can run
//! without the component around it.
//!
//! Tools make such components in one way: a main module, and two small ones that pass its imports on
//! through a table, since the host's functions need the main module's memory, which exists only
//! after it. The wiring is followed function by function. Where anything differs from what is known
//! here, the answer is no, and the component runs as a component.
//!
//! The bytes are those of a valid component, and may be hostile all the same: nothing here panics.

mod passing;
#[cfg(test)]
mod tests;
mod wiring;

use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

use self::{
    passing::{Callers, Filler},
    wiring::{CoreInstance, HostFunction, ImportName, MEMORY, Wiring, without_version},
};

/// The core module of a component.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CoreModule<'a> {
    /// The binary.
    pub(crate) bytes: &'a [u8],
}

/// The interface that it exports, without its version, and the function in it.
const HANDLER: (&str, &str) = ("wasi:http/incoming-handler", "handle");

/// Returns the core module of a component that handles HTTP requests, if it can run alone: each of
/// its imports is the host's function of the same name, with texts in UTF-8, the module's own memory
/// and its own allocator, and `is_served` knows the function by its interface (without version) and
/// its name.
pub(crate) fn core_module<'a>(
    component: &'a [u8],
    is_served: &dyn Fn(&str, &str) -> bool,
) -> Option<CoreModule<'a>> {
    let wiring = Wiring::read(component).ok().flatten()?;
    let parts = Parts::of(&wiring)?;
    let main = Main::read(parts.main_bytes).ok().flatten()?;
    let all = main.imports.iter().all(|&(module, name)| {
        let interface = without_version(module);
        let named = HostFunction { interface, name: ImportName::of_import(name) };
        parts.import(&wiring, module, name) == Some(named) && is_served(interface, name)
    });
    all.then_some(CoreModule { bytes: parts.main_bytes })
}

/// The core instances of a component by what they are for.
struct Parts<'w, 'a> {
    main: u32,
    main_bytes: &'a [u8],
    main_imports: &'w [(&'a str, u32)],
    callers: Option<(u32, Callers<'a>)>,
    filler: Option<(&'w [(&'a str, u32)], Filler<'a>)>,
}

impl<'w, 'a> Parts<'w, 'a> {
    /// None if there are others, or two of a kind.
    fn of(wiring: &'w Wiring<'a>) -> Option<Self> {
        let main = handler_instance(wiring)?;
        let instance = wiring.core_instances.get(main as usize)?;
        let CoreInstance::Of { module, imports } = instance else { return None };
        let mut parts = Self {
            main,
            main_bytes: (*wiring.modules.get(*module as usize)?)?,
            main_imports: imports,
            callers: None,
            filler: None,
        };
        for (index, instance) in (0_u32..).zip(&wiring.core_instances) {
            let CoreInstance::Of { module, imports } = instance else { continue };
            if index == main {
                continue;
            }
            let bytes = (*wiring.modules.get(*module as usize)?)?;
            if let (None, Some(callers)) = (&parts.callers, passing::callers(bytes).ok()?) {
                parts.callers = Some((index, callers));
            } else if let (None, Some(filler)) = (&parts.filler, passing::filler(bytes).ok()?) {
                parts.filler = Some((imports, filler));
            } else {
                return None;
            }
        }
        Some(parts)
    }

    /// The function of the host that is behind an import of the main module.
    fn import(&self, wiring: &Wiring<'a>, module: &str, name: &str) -> Option<HostFunction<'a>> {
        let function = wiring.function_in(argument(self.main_imports, module)?, name)?;
        let Some((instance, name)) = wiring.export(function) else {
            return wiring.host_function(function, self.main);
        };
        let (callers_instance, callers) = self.callers.as_ref()?;
        let (imports, filler) = self.filler.as_ref()?;
        let table = wiring.table_in(argument(imports, filler.table.0)?, filler.table.1);
        let same_table = table == Some((*callers_instance, callers.table));
        if instance != *callers_instance || !same_table {
            return None;
        }
        let slot = *callers.slots.get(name)?;
        let &(module, name) = filler.slots.get(slot as usize)?;
        let function = wiring.function_in(argument(imports, module)?, name)?;
        wiring.host_function(function, self.main)
    }
}

/// The core instance whose export handles requests.
fn handler_instance(wiring: &Wiring<'_>) -> Option<u32> {
    let mut found = None;
    for &function in &wiring.lifted {
        let (instance, name) = wiring.export(function)?;
        let (interface, function) = name.split_once('#')?;
        if (without_version(interface), function) == HANDLER {
            // A second one would have to be told from the first.
            if found.is_some() {
                return None;
            }
            found = Some(instance);
        }
    }
    found
}

/// The instance that another one gets under a name.
fn argument(arguments: &[(&str, u32)], name: &str) -> Option<u32> {
    arguments.iter().find(|(found, _)| *found == name).map(|(_, instance)| *instance)
}

/// What has to be known of the main module.
struct Main<'a> {
    imports: Vec<(&'a str, &'a str)>,
}

impl<'a> Main<'a> {
    /// Reads a module. None if it is not one that can run alone: it imports something else than
    /// functions, or has another memory than the one that it exports.
    fn read(bytes: &'a [u8]) -> wasmparser::Result<Option<Self>> {
        let mut imports = Vec::new();
        let mut memories = Vec::new();
        let mut memory_exported = false;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        if !matches!(import.ty, TypeRef::Func(_)) {
                            return Ok(None);
                        }
                        imports.push((import.module, import.name));
                    }
                }
                Payload::MemorySection(section) => {
                    memories.extend(section.into_iter().collect::<wasmparser::Result<Vec<_>>>()?);
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        memory_exported |=
                            export.name == MEMORY && export.kind == ExternalKind::Memory;
                    }
                }
                _ => {}
            }
        }
        let alone = match memories[..] {
            [memory] => !memory.memory64 && !memory.shared && memory.page_size_log2.is_none(),
            _ => false,
        };
        Ok((alone && memory_exported).then_some(Self { imports }))
    }
}
