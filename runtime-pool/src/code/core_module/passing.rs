//! The two small modules by which a component passes its main module's imports on.

use std::collections::HashMap;

use wasmparser::{ElementItems, ElementKind, ExternalKind, Operator, Parser, Payload, TypeRef};

/// A module whose exports call what is in a table.
#[derive(Debug, Default)]
pub(super) struct Callers<'a> {
    /// The name of the table.
    pub(super) table: &'a str,
    /// The slot that each exported function calls, with its own parameters and nothing else.
    pub(super) slots: HashMap<&'a str, u32>,
}

/// A module that fills the table with what it imports.
#[derive(Debug, Default)]
pub(super) struct Filler<'a> {
    /// Where the table comes from: module and name.
    pub(super) table: (&'a str, &'a str),
    /// The imports by the slot that they are put in: module and name.
    pub(super) slots: Vec<(&'a str, &'a str)>,
}

/// Reads a module of callers. None if it does anything else.
pub(super) fn callers(bytes: &[u8]) -> wasmparser::Result<Option<Callers<'_>>> {
    let mut types = Vec::new();
    let mut functions = Vec::new();
    let mut called = Vec::new();
    let mut found = Callers::default();
    let mut exported = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { .. }
            | Payload::CustomSection(_)
            | Payload::CodeSectionStart { .. }
            | Payload::TableSection(_)
            | Payload::End(_) => {}
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    types.push(ty?.params().len());
                }
            }
            Payload::FunctionSection(section) => {
                functions = section.into_iter().collect::<wasmparser::Result<Vec<_>>>()?;
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    match export.kind {
                        ExternalKind::Func => exported.push((export.name, export.index)),
                        ExternalKind::Table if found.table.is_empty() && export.index == 0 => {
                            found.table = export.name;
                        }
                        _ => return Ok(None),
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                let ty = functions.get(called.len()).copied();
                let parameters = ty.and_then(|ty| types.get(ty as usize)).copied();
                let (Some(ty), Some(parameters)) = (ty, parameters) else { return Ok(None) };
                if body.get_locals_reader()?.get_count() != 0 {
                    return Ok(None);
                }
                let operators = body.get_operators_reader()?;
                let operators = operators.into_iter().collect::<wasmparser::Result<Vec<_>>>()?;
                match called_slot(&operators, ty, parameters) {
                    Some(slot) => called.push(slot),
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        }
    }
    for (name, function) in exported {
        match called.get(function as usize) {
            Some(&slot) => found.slots.insert(name, slot),
            None => return Ok(None),
        };
    }
    Ok(Some(found))
}

/// The slot that a body calls with its `parameters`, if this is all it does.
fn called_slot(operators: &[Operator<'_>], ty: u32, parameters: usize) -> Option<u32> {
    let (passed, rest) = operators.split_at_checked(parameters)?;
    let in_order = passed.iter().enumerate().all(|(index, operator)| {
        matches!(operator, Operator::LocalGet { local_index } if *local_index as usize == index)
    });
    match *rest {
        [
            Operator::I32Const { value },
            Operator::CallIndirect { type_index, table_index: 0 },
            Operator::End,
        ] if in_order && type_index == ty => u32::try_from(value).ok(),
        _ => None,
    }
}

/// Reads a module that fills a table. None if it does anything else.
pub(super) fn filler(bytes: &[u8]) -> wasmparser::Result<Option<Filler<'_>>> {
    let mut imports = Vec::new();
    let mut table = None;
    let mut slots = None;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { .. }
            | Payload::CustomSection(_)
            | Payload::TypeSection(_)
            | Payload::End(_) => {}
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    match import.ty {
                        TypeRef::Func(_) => imports.push((import.module, import.name)),
                        TypeRef::Table(_) if table.is_none() => {
                            table = Some((import.module, import.name));
                        }
                        _ => return Ok(None),
                    }
                }
            }
            Payload::ElementSection(section) if slots.is_none() && section.count() == 1 => {
                for element in section {
                    let element = element?;
                    let from_first = match element.kind {
                        ElementKind::Active { table_index: None | Some(0), offset_expr } => {
                            let mut offset = offset_expr.get_operators_reader();
                            matches!(offset.read()?, Operator::I32Const { value: 0 })
                                && matches!(offset.read()?, Operator::End)
                        }
                        _ => false,
                    };
                    let ElementItems::Functions(items) = element.items else { return Ok(None) };
                    if !from_first {
                        return Ok(None);
                    }
                    slots = Some(items.into_iter().collect::<wasmparser::Result<Vec<_>>>()?);
                }
            }
            _ => return Ok(None),
        }
    }
    let (Some(table), Some(slots)) = (table, slots) else { return Ok(None) };
    let slots = slots.into_iter().map(|function| imports.get(function as usize).copied());
    Ok(slots.collect::<Option<Vec<_>>>().map(|slots| Filler { table, slots }))
}
