//! Linking: from native code to a guest whose imports are resolved.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Instant,
};

use wasmtime::{Linker, component};
use wasmtime_wasi::{p2::bindings::CommandPre, p3::bindings::CommandPre as AsyncCommandPre};
use wasmtime_wasi_http::{p2::bindings::ProxyPre, p3::bindings::ServicePre};

use crate::{
    code::{artifact::Kind, cache::NativeCode},
    engine::{EngineConfig, EngineKind, compatibility, compiling_engine, pooled_engine},
    error::{LoadError, Refusal, StartError},
    host::{
        Host, ModuleHost,
        capabilities::interfaces::resolve,
        core_module::{self, CoreHost, InstanceCount, core_linker, served_functions},
        instance::PreInstance,
        interfaces::{
            preview1, preview1_with_files, wasi_02, wasi_02_with_files, wasi_03, wasi_03_with_files,
        },
    },
    metrics::start::{Phase, Phases},
};

/// The engines, and linkers with everything that guests may import. Built once, because building a
/// linker takes longer than a cold start.
pub(crate) struct Linkers {
    plain: LinkerSet,
    /// For functions with files, from the first of them on: many nodes have none.
    with_files: OnceLock<LinkerSet>,
}

/// A linker for each kind of code.
struct LinkerSet {
    lean: component::Linker<Host>,
    modules: Linker<ModuleHost>,
    /// For components that run as their core module.
    core_modules: Linker<CoreHost>,
    core_instances: Arc<InstanceCount>,
    concurrent: Option<component::Linker<Host>>,
}

impl Linkers {
    pub(crate) fn new(config: &EngineConfig) -> Result<Self, StartError> {
        let failed = |cause| StartError { what: "linking the host interfaces", cause };
        let engine = pooled_engine(EngineKind::Lean, config)?;
        let mut modules = Linker::new(&engine);
        preview1(&mut modules).map_err(failed)?;
        let concurrent = if config.async_engine {
            let engine = pooled_engine(EngineKind::Concurrent, config)?;
            Some(wasi_03(&engine).map_err(failed)?)
        } else {
            None
        };
        let lean = wasi_02(&engine).map_err(failed)?;
        let core_modules = core_linker(&engine).map_err(failed)?;
        let core_instances = InstanceCount::new(config.instances);
        let plain = LinkerSet { lean, modules, core_modules, core_instances, concurrent };
        Ok(Self { plain, with_files: OnceLock::new() })
    }

    /// The engines that run guests.
    pub(crate) fn engines(&self) -> Vec<wasmtime::Engine> {
        let concurrent = self.plain.concurrent.iter().map(component::Linker::engine);
        [self.plain.lean.engine()].into_iter().chain(concurrent).cloned().collect()
    }

    /// A hash of everything that native code for these engines depends on. The second engine counts
    /// even where it is switched off, so that switching it on or off keeps native code valid. Which
    /// components are compiled as their core module depends on the functions that are served.
    pub(crate) fn compatibility(&self, core_modules: bool) -> Result<u64, StartError> {
        let concurrent = compiling_engine(EngineKind::Concurrent)
            .map_err(|cause| StartError { what: "making an engine", cause })?;
        let served = if core_modules { served_functions() } else { Vec::new() };
        Ok(compatibility([self.plain.lean.engine(), &concurrent], &served))
    }

    fn with_files(&self) -> Result<&LinkerSet, LoadError> {
        if let Some(linkers) = self.with_files.get() {
            return Ok(linkers);
        }
        let failed = |error| LoadError::Engine {
            what: "linking the interfaces for files",
            detail: format!("{error:#}"),
        };
        let linkers = self.plain.with_files().map_err(failed)?;
        // Two loads may have made them at the same time: one of them is kept.
        Ok(self.with_files.get_or_init(|| linkers))
    }

    /// Maps native code into memory and resolves its imports, those for files only if the function has
    /// any. Records how long each took. Blocks on the file system.
    pub(crate) fn link(
        &self,
        code: &NativeCode,
        files: bool,
        phases: &mut Phases,
    ) -> Result<PreInstance, LoadError> {
        let since = Instant::now();
        let kind = code.inspection.kind;
        let linkers = if files { self.with_files()? } else { &self.plain };
        if kind == Kind::WasiPreview1 {
            let module =
                code.module(linkers.modules.engine()).map_err(|error| unloadable(&error))?;
            let mapped = Instant::now();
            phases.add(Phase::Load, mapped - since);
            let pre =
                linkers.modules.instantiate_pre(&module).map_err(|error| unlinkable(&error))?;
            phases.add(Phase::Link, mapped.elapsed());
            return Ok(PreInstance::Module(pre));
        }
        if code.inspection.core_module {
            let linker = &linkers.core_modules;
            let module = code.module(linker.engine()).map_err(|error| unloadable(&error))?;
            let mapped = Instant::now();
            phases.add(Phase::Load, mapped - since);
            let pre = core_module::link(linker, &module, &linkers.core_instances)
                .map_err(|error| unlinkable(&error))?;
            phases.add(Phase::Link, mapped.elapsed());
            return Ok(PreInstance::HttpCore(pre));
        }
        let linker = match kind.engine() {
            EngineKind::Lean => &linkers.lean,
            EngineKind::Concurrent => {
                linkers.concurrent.as_ref().ok_or(LoadError::AsyncEngineOff)?
            }
        };
        let component = code.component(linker.engine()).map_err(|error| unloadable(&error))?;
        let mapped = Instant::now();
        phases.add(Phase::Load, mapped - since);
        let pre = resolve(linker, &component).map_err(|error| unlinkable(&error))?;
        let linked = match kind {
            Kind::WasiHttp02 => ProxyPre::new(pre).map(PreInstance::Http),
            Kind::WasiHttp03 => ServicePre::new(pre).map(PreInstance::HttpAsync),
            Kind::WasiCommand => CommandPre::new(pre).map(PreInstance::Command),
            Kind::WasiCommand03 => AsyncCommandPre::new(pre).map(PreInstance::CommandAsync),
            Kind::WasiPreview1 => unreachable!("linked above"),
        }
        .map_err(|error| unlinkable(&error))?;
        phases.add(Phase::Link, mapped.elapsed());
        Ok(linked)
    }
}

impl LinkerSet {
    /// The same linkers with files.
    fn with_files(&self) -> wasmtime::Result<Self> {
        Ok(Self {
            lean: wasi_02_with_files(&self.lean)?,
            modules: preview1_with_files(&self.modules)?,
            // They have no interface for files.
            core_modules: self.core_modules.clone(),
            core_instances: Arc::clone(&self.core_instances),
            concurrent: self.concurrent.as_ref().map(wasi_03_with_files).transpose()?,
        })
    }
}

/// Native code does not load because the disk failed; or because the file was damaged or removed, or
/// needs more than an instance of the pool has.
fn unloadable(error: &wasmtime::Error) -> LoadError {
    let changed = |kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::InvalidData);
    if let Some(cause) = error.root_cause().downcast_ref::<io::Error>()
        && !changed(cause.kind())
    {
        return LoadError::io("loading native code")(io::Error::new(
            cause.kind(),
            cause.to_string(),
        ));
    }
    LoadError::Engine { what: "loading native code", detail: format!("{error:#}") }
}

fn unlinkable(error: &wasmtime::Error) -> LoadError {
    Refusal::Start(format!("{error:#}")).into()
}
