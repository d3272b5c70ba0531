//! Finds a component's start-up function.
//!
//! An export of the component itself is called directly. But toolchains export only what a WIT
//! world declares, and few guests have a world of their own. So a function that one of the
//! component's core modules exports is accepted as well, and is added to the component's exports.

use std::borrow::Cow;

use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component, ComponentAliasSection, ComponentExportKind,
    ComponentExportSection, ComponentTypeSection, ComponentValType, ExportKind,
};
use wasmparser::{
    KnownCustom, Parser, Payload, Validator, WasmFeatures,
    component_types::ComponentEntityType,
    types::{EntityType, Types},
};

use super::failure::SnapshotFailure;

/// The name of the export that is added for a core module's function.
const EXPOSED: &str = "mayfly-start";
/// Tools that run the start-up function of the components that they build. It may still be
/// exported, and must not run a second time.
const INITIALISERS: &[&str] = &["ComponentizeJS", "componentize-py"];
/// Magic number and version.
const PREAMBLE: usize = 8;

/// The component with its start-up function as an export, and the name of that export.
pub(crate) fn start_function<'a>(
    wasm: &'a [u8],
    function: &'a str,
) -> Result<(Cow<'a, [u8]>, &'a str), SnapshotFailure> {
    let types = Validator::new_with_features(WasmFeatures::all())
        .validate_all(wasm)
        .map_err(|error| SnapshotFailure::Unfit(error.to_string()))?;
    if let Some(item) = types.as_ref().component_item_for_export(function) {
        let ComponentEntityType::Func(id) = item.ty else { return Err(unsuitable(function)) };
        let ty = &types[id];
        return if ty.params.is_empty() && ty.result.is_none() && !ty.async_ {
            Ok((Cow::Borrowed(wasm), function))
        } else {
            Err(unsuitable(function))
        };
    }
    if let Some(tool) = initialised_by(wasm) {
        return Err(SnapshotFailure::Unfit(format!("{tool} initialised it when it was built")));
    }
    for instance in 0..types.as_ref().core_instance_count() {
        match core_export(&types, instance, function) {
            Some(EntityType::Func(id)) => {
                let ty = types[id].unwrap_func();
                if !ty.params().is_empty() || !ty.results().is_empty() {
                    return Err(unsuitable(function));
                }
                return Ok((Cow::Owned(exposed(wasm, &types, instance, function)), EXPOSED));
            }
            Some(_) => return Err(unsuitable(function)),
            None => {}
        }
    }
    Err(missing(function))
}

/// Tools name themselves in a custom section.
fn initialised_by(wasm: &[u8]) -> Option<&'static str> {
    Parser::new(0).parse_all(wasm).flatten().find_map(|payload| {
        let Payload::CustomSection(section) = payload else { return None };
        let KnownCustom::Producers(fields) = section.as_known() else { return None };
        fields
            .into_iter()
            .flatten()
            .flat_map(|field| field.values.into_iter().flatten())
            .find_map(|value| INITIALISERS.iter().find(|name| value.name == **name).copied())
    })
}

fn core_export(types: &Types, instance: u32, name: &str) -> Option<EntityType> {
    let types = types.as_ref();
    types[types.core_instance_at(instance)].exports(types).get(name).copied()
}

/// Appends three definitions: an alias of the core function, a component function that lifts it,
/// and an export.
fn exposed(wasm: &[u8], types: &Types, instance: u32, function: &str) -> Vec<u8> {
    let types = types.as_ref();
    let mut aliases = ComponentAliasSection::new();
    let kind = ExportKind::Func;
    aliases.alias(Alias::CoreInstanceExport { instance, kind, name: function });
    let mut function_types = ComponentTypeSection::new();
    function_types.function().params::<_, ComponentValType>([]).result(None);
    let mut functions = CanonicalFunctionSection::new();
    functions.lift(types.function_count(), types.component_type_count(), []);
    let mut exports = ComponentExportSection::new();
    let index = types.component_function_count();
    exports.export(EXPOSED, ComponentExportKind::Func, index, None);

    let mut appended = Component::new();
    appended.section(&aliases).section(&function_types).section(&functions).section(&exports);
    [wasm, &appended.finish()[PREAMBLE..]].concat()
}

pub(crate) fn missing(function: &str) -> SnapshotFailure {
    SnapshotFailure::Unfit(format!("it exports no function `{function}`"))
}

pub(crate) fn unsuitable(function: &str) -> SnapshotFailure {
    SnapshotFailure::Unfit(format!(
        "its export `{function}` is no function without parameters and result"
    ))
}
