//! `wasi:http` 0.2: requests, responses, and their fields and bodies.

mod messages;
mod outgoing;
mod types;

use wasmtime::component::Resource;
use wasmtime_wasi_http::{
    FieldMap, WasiHttpCtxView, WasiHttpView as _,
    p2::{
        HeaderResult,
        bindings::http::types::{HeaderError, Host as _, HostFields},
    },
};

use crate::host::core_module::{
    abi::{Lent, Own},
    call::{Functions, Interface},
    handles::{HeldByGuest, ResourceKind},
};

pub(super) fn add_functions(functions: &mut Functions<'_>) -> wasmtime::Result<()> {
    let mut types = Interface { name: "wasi:http/types", functions };
    fields(&mut types)?;
    messages::incoming(&mut types)?;
    messages::bodies(&mut types)?;
    outgoing::outgoing_requests(&mut types)?;
    outgoing::options(&mut types)?;
    outgoing::responses(&mut types)?;
    let mut handler = Interface { name: "wasi:http/outgoing-handler", functions };
    outgoing::handler(&mut handler)
}

impl HeldByGuest for FieldMap {
    const KIND: ResourceKind = ResourceKind::Fields;
}

/// What became of fields that were to be changed.
fn header<T>(
    http: &mut WasiHttpCtxView<'_>,
    result: HeaderResult<T>,
) -> wasmtime::Result<Result<T, HeaderError>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => http.convert_header_error(error).map(Err),
    }
}

type Entries = Vec<(String, Vec<u8>)>;

fn fields(types: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    types
        .call::<fn() -> u32, _, _>("[constructor]fields", |host, ()| {
            HostFields::new(&mut host.http())
        })?
        .call::<fn(u32), _, _>("[resource-drop]fields", |host, (Own(fields),)| {
            HostFields::drop(&mut host.http(), fields)
        })?
        .call::<fn(u32, u32, u32), _, _>(
            "[static]fields.from-list",
            |host, (entries,): (Entries,)| {
                let mut http = host.http();
                let fields = http.from_list(entries);
                header::<Resource<FieldMap>>(&mut http, fields)
            },
        )?
        .call::<fn(u32, u32, u32, u32), _, _>(
            "[method]fields.get",
            |host, (Lent(fields), name): (Lent<FieldMap>, String)| {
                HostFields::get(&mut host.http(), fields, name)
            },
        )?
        .call::<fn(u32, u32, u32) -> u32, _, _>(
            "[method]fields.has",
            |host, (Lent(fields), name): (Lent<FieldMap>, String)| host.http().has(fields, name),
        )?
        .call::<fn(u32, u32, u32, u32, u32, u32), _, _>(
            "[method]fields.set",
            |host, (Lent(fields), name, values): (Lent<FieldMap>, String, Vec<Vec<u8>>)| {
                let mut http = host.http();
                let set = http.set(fields, name, values);
                header(&mut http, set)
            },
        )?
        .call::<fn(u32, u32, u32, u32), _, _>(
            "[method]fields.delete",
            |host, (Lent(fields), name): (Lent<FieldMap>, String)| {
                let mut http = host.http();
                let deleted = HostFields::delete(&mut http, fields, name);
                header(&mut http, deleted)
            },
        )?
        .call::<fn(u32, u32, u32, u32, u32, u32), _, _>(
            "[method]fields.append",
            |host, (Lent(fields), name, value): (Lent<FieldMap>, String, Vec<u8>)| {
                let mut http = host.http();
                let appended = http.append(fields, name, value);
                header(&mut http, appended)
            },
        )?
        .call::<fn(u32, u32), _, _>("[method]fields.entries", |host, (Lent(fields),)| {
            host.http().entries(fields)
        })?
        .call::<fn(u32) -> u32, _, _>("[method]fields.clone", |host, (Lent(fields),)| {
            HostFields::clone(&mut host.http(), fields)
        })?;
    Ok(())
}
