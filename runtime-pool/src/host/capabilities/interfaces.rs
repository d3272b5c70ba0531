//! The interfaces by which guests reach what they are granted.
//!
//! Several interfaces say the same in other words: each is a table of names over the operations of
//! `bucket` and `config`.

mod configuration;
mod errors;
mod functions;
mod key_value;
mod mayfly;
pub(crate) mod names;

use wasmtime::component::{Component, InstancePre, Linker};

use self::functions::CallKind;
use crate::host::Host;

/// Adds the interfaces that both engines serve.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    key_value::add_wasi(linker)?;
    key_value::add_spin(linker, names::SPIN_KEY_VALUE, CallKind::Blocking)?;
    mayfly::add(linker)?;
    configuration::add(linker)?;
    configuration::add_variables(linker, names::VARIABLES, CallKind::Blocking)
}

/// Adds those whose functions are asynchronous.
pub(crate) fn add_async_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    key_value::add_spin(linker, names::SPIN_KEY_VALUE_ASYNC, CallKind::Concurrent)?;
    configuration::add_variables(linker, names::VARIABLES_ASYNC, CallKind::Concurrent)
}

/// Resolves the imports of a component.
///
/// One name has two shapes in the field. The component's own is known only from its types: where the
/// first does not fit, the other is tried.
pub(crate) fn resolve(
    linker: &Linker<Host>,
    component: &Component,
) -> wasmtime::Result<InstancePre<Host>> {
    let resolved = linker.instantiate_pre(component);
    let engine = linker.engine();
    let two_shapes = |name: &str| name == names::BATCH_OF_TWO_SHAPES;
    if resolved.is_ok()
        || !component.component_type().imports(engine).any(|(name, _)| two_shapes(name))
    {
        return resolved;
    }
    let mut other = linker.clone();
    key_value::use_other_shape(&mut other)?;
    other.instantiate_pre(component).or(resolved)
}
