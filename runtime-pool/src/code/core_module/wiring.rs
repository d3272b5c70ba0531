//! What a component's core functions, memories and instances are made of.

use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExternalKind, ComponentTypeRef,
    Export, ExternalKind, Instance, Parser, Payload,
};

/// The exports of the main module that functions of the host use.
pub(super) const MEMORY: &str = "memory";
const REALLOC: &str = "cabi_realloc";

/// An export of an instance, by the index of the instance.
type ExportOf<'a> = (u32, &'a str);

/// The outermost index spaces of a component. What is of no use here is None.
#[derive(Debug, Default)]
pub(super) struct Wiring<'a> {
    pub(super) modules: Vec<Option<&'a [u8]>>,
    pub(super) core_instances: Vec<CoreInstance<'a>>,
    core_functions: Vec<CoreFunction<'a>>,
    core_memories: Vec<ExportOf<'a>>,
    core_tables: Vec<ExportOf<'a>>,
    /// Types that instances export.
    types: Vec<Option<ExportOf<'a>>>,
    /// Functions that instances export.
    functions: Vec<Option<ExportOf<'a>>>,
    /// Instances that are imported, by name.
    instances: Vec<Option<&'a str>>,
    /// The core functions that are lifted.
    pub(super) lifted: Vec<u32>,
}

/// A core instance.
#[derive(Debug)]
pub(super) enum CoreInstance<'a> {
    /// A module with the instances that it imports from.
    Of { module: u32, imports: Vec<(&'a str, u32)> },
    /// What others export, under names.
    Exports(Box<[Export<'a>]>),
}

/// A core function.
#[derive(Debug)]
enum CoreFunction<'a> {
    /// An export of a core instance.
    Export(ExportOf<'a>),
    /// A function, lowered.
    Lowered {
        function: u32,
        options: Box<[CanonicalOption]>,
    },
    /// The one that drops a resource of a type.
    Drop {
        ty: u32,
    },
    Other,
}

/// A function of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostFunction<'a> {
    /// Without its version.
    pub(super) interface: &'a str,
    /// As core modules name it. The function that drops a resource is `[resource-drop]NAME`.
    pub(super) name: ImportName<'a>,
}

/// The name of a function of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImportName<'a> {
    /// The name in its interface.
    Of(&'a str),
    /// The function that drops a resource of this type.
    Drop(&'a str),
}

impl<'a> ImportName<'a> {
    /// Reads the name that a core module imports.
    pub(super) fn of_import(name: &'a str) -> Self {
        name.strip_prefix("[resource-drop]").map_or(Self::Of(name), Self::Drop)
    }
}

/// `wasi:io/poll` of `wasi:io/poll@0.2.6`. A name of another version keeps it, and is no interface
/// that the host knows.
pub(super) fn without_version(name: &str) -> &str {
    match name.rsplit_once("@0.2.") {
        Some((interface, patch)) if patch.bytes().all(|byte| byte.is_ascii_digit()) => interface,
        _ => name,
    }
}

impl<'a> Wiring<'a> {
    /// Reads a component. None if it holds something that a plain one does not.
    pub(super) fn read(component: &'a [u8]) -> wasmparser::Result<Option<Self>> {
        let mut wiring = Self::default();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload?;
            if let Payload::ModuleSection { .. } | Payload::ComponentSection { .. } = payload {
                if let (0, Payload::ModuleSection { unchecked_range, .. }) = (depth, &payload) {
                    wiring.modules.push(component.get(unchecked_range.clone()));
                }
                depth += 1;
            } else if let Payload::End(_) = payload {
                depth = depth.saturating_sub(1);
            } else if depth == 0 && !wiring.add(payload)? {
                return Ok(None);
            }
        }
        Ok(Some(wiring))
    }

    /// Adds a section, or says that it is none of a plain component.
    fn add(&mut self, payload: Payload<'a>) -> wasmparser::Result<bool> {
        match payload {
            Payload::Version { .. } | Payload::CustomSection(_) | Payload::CoreTypeSection(_) => {}
            Payload::ComponentTypeSection(section) => {
                self.types.extend(section.into_iter().map(|_| None));
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import?;
                    match import.ty {
                        ComponentTypeRef::Instance(_) => {
                            self.instances.push(Some(import.name.name));
                        }
                        ComponentTypeRef::Type(_) => self.types.push(None),
                        _ => return Ok(false),
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    match export?.kind {
                        ComponentExternalKind::Instance => self.instances.push(None),
                        ComponentExternalKind::Type => self.types.push(None),
                        ComponentExternalKind::Func => self.functions.push(None),
                        _ => return Ok(false),
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                self.instances.extend(section.into_iter().map(|_| None));
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    self.core_instances.push(CoreInstance::of(instance?));
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    if !self.add_alias(&alias?) {
                        return Ok(false);
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.add_canonical(function?);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn add_alias(&mut self, alias: &ComponentAlias<'a>) -> bool {
        match *alias {
            ComponentAlias::InstanceExport { kind, instance_index, name } => {
                let export = Some((instance_index, name));
                match kind {
                    ComponentExternalKind::Type => self.types.push(export),
                    ComponentExternalKind::Func => self.functions.push(export),
                    ComponentExternalKind::Instance => self.instances.push(None),
                    _ => return false,
                }
            }
            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                let export = (instance_index, name);
                match kind {
                    ExternalKind::Func => self.core_functions.push(CoreFunction::Export(export)),
                    ExternalKind::Memory => self.core_memories.push(export),
                    ExternalKind::Table => self.core_tables.push(export),
                    _ => return false,
                }
            }
            ComponentAlias::Outer { .. } => return false,
        }
        true
    }

    fn add_canonical(&mut self, function: CanonicalFunction) {
        let made = match function {
            CanonicalFunction::Lift { core_func_index, .. } => {
                self.lifted.push(core_func_index);
                self.functions.push(None);
                return;
            }
            CanonicalFunction::Lower { func_index, options } => {
                CoreFunction::Lowered { function: func_index, options }
            }
            CanonicalFunction::ResourceDrop { resource } => CoreFunction::Drop { ty: resource },
            _ => CoreFunction::Other,
        };
        self.core_functions.push(made);
    }

    /// The export of a core instance that a core function is, if it is one.
    pub(super) fn export(&self, function: u32) -> Option<ExportOf<'a>> {
        match self.core_functions.get(function as usize)? {
            CoreFunction::Export(export) => Some(*export),
            _ => None,
        }
    }

    /// The core function that a core instance has under a name, if the instance is made of exports.
    pub(super) fn function_in(&self, instance: u32, name: &str) -> Option<u32> {
        self.exported_by(instance, ExternalKind::Func, name)
    }

    /// The instance, and its name for it, that a table comes from.
    pub(super) fn table_in(&self, instance: u32, name: &'a str) -> Option<ExportOf<'a>> {
        match self.core_instances.get(instance as usize)? {
            CoreInstance::Of { .. } => Some((instance, name)),
            CoreInstance::Exports(_) => {
                let table = self.exported_by(instance, ExternalKind::Table, name)?;
                self.core_tables.get(table as usize).copied()
            }
        }
    }

    fn exported_by(&self, instance: u32, kind: ExternalKind, name: &str) -> Option<u32> {
        let CoreInstance::Exports(exports) = self.core_instances.get(instance as usize)? else {
            return None;
        };
        let export = exports.iter().find(|export| export.name == name && export.kind == kind)?;
        Some(export.index)
    }

    /// The function of the host that a core function is, where the core instance `main` gives the
    /// memory and the allocator.
    pub(super) fn host_function(&self, function: u32, main: u32) -> Option<HostFunction<'a>> {
        let (instance, name) = match self.core_functions.get(function as usize)? {
            CoreFunction::Lowered { function, options } => {
                let plain = options.iter().all(|option| match *option {
                    CanonicalOption::UTF8 => true,
                    CanonicalOption::Memory(memory) => {
                        self.core_memories.get(memory as usize) == Some(&(main, MEMORY))
                    }
                    CanonicalOption::Realloc(realloc) => {
                        self.export(realloc) == Some((main, REALLOC))
                    }
                    _ => false,
                });
                let (instance, name) = (*self.functions.get(*function as usize)?)?;
                (plain.then_some(instance)?, ImportName::Of(name))
            }
            CoreFunction::Drop { ty } => {
                let (instance, name) = (*self.types.get(*ty as usize)?)?;
                (instance, ImportName::Drop(name))
            }
            CoreFunction::Export(_) | CoreFunction::Other => return None,
        };
        let interface = (*self.instances.get(instance as usize)?)?;
        Some(HostFunction { interface: without_version(interface), name })
    }
}

impl<'a> CoreInstance<'a> {
    fn of(instance: Instance<'a>) -> Self {
        match instance {
            Instance::Instantiate { module_index, args } => Self::Of {
                module: module_index,
                imports: args.iter().map(|argument| (argument.name, argument.index)).collect(),
            },
            Instance::FromExports(exports) => Self::Exports(exports),
        }
    }
}
