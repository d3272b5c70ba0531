//! Functions of `wasi:http` 0.2 in which the host does a little more.
//!
//! `outgoing-handler.handle` leaves no line in the gateway's own log for a request that has no path: a
//! guest could fill that log. `outgoing-response.body` is noted, because a guest that writes much of
//! it before it gives its response waits for ever.

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi_http::{
    RequestOptions, WasiHttpView as _,
    p2::{
        bindings::http::{
            outgoing_handler::Host as _,
            types::{self, ErrorCode, Host as _},
        },
        body::HostOutgoingBody,
        types::{HostFutureIncomingResponse, HostOutgoingRequest, HostOutgoingResponse},
    },
};

use crate::host::Host;

const TYPES: &str = "wasi:http/types@0.2.12";
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

type Sent = Result<Resource<HostFutureIncomingResponse>, ErrorCode>;

type Body = Result<Resource<HostOutgoingBody>, ()>;

/// Replaces the functions.
pub(super) fn watch_messages(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(TYPES)?.func_wrap(
        "[method]outgoing-response.body",
        |mut store: StoreContextMut<'_, Host>, (response,): (Resource<HostOutgoingResponse>,)| {
            let host = store.data_mut();
            host.limits.make_response();
            let body: Body = types::HostOutgoingResponse::body(&mut host.http(), response)?;
            Ok((body,))
        },
    )?;
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

fn send(
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
