//! `outgoing-handler.handle` of `wasi:http` 0.2, which leaves no line in the gateway's own log for a
//! request that has no path: a guest could fill that log.

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi_http::{
    RequestOptions, WasiHttpView as _,
    p2::{
        bindings::http::{
            outgoing_handler::Host as _,
            types::{ErrorCode, Host as _},
        },
        types::{HostFutureIncomingResponse, HostOutgoingRequest},
    },
};

use crate::host::Host;

const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

pub(in crate::host) type Sent = Result<Resource<HostFutureIncomingResponse>, ErrorCode>;

/// Replaces the function.
pub(in crate::host) fn watch_requests(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(HANDLER)?.func_wrap(
        "handle",
        |mut store: StoreContextMut<'_, Host>,
         (request, options): (
            Resource<HostOutgoingRequest>,
            Option<Resource<RequestOptions>>,
        )| { Ok((send(store.data_mut(), request, options)?,)) },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

pub(in crate::host) fn send(
    host: &mut Host,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<Sent> {
    let mut http = host.http();
    if http.table.get(&request)?.path_with_query.is_none() {
        http.table.delete(request)?;
        if let Some(options) = options {
            http.table.delete(options)?;
        }
        return Ok(Err(ErrorCode::HttpRequestUriInvalid));
    }
    match http.handle(request, options) {
        Ok(response) => Ok(Ok(response)),
        Err(error) => http.convert_error_code(error).map(Err),
    }
}
