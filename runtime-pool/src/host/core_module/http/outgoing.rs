//! What goes out: the guest's response, and its own requests.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi_http::{
    FieldMap, RequestOptions, WasiHttpView as _,
    p2::{
        bindings::http::types::{
            ErrorCode, HostOutgoingRequest as RequestFunctions,
            HostOutgoingResponse as ResponseFunctions, HostRequestOptions as OptionFunctions,
            HostResponseOutparam as OutparamFunctions, Method, Scheme,
        },
        body::HostOutgoingBody,
        types::{HostOutgoingRequest, HostOutgoingResponse, HostResponseOutparam},
    },
};

use crate::host::{
    core_module::{
        abi::{Lent, Own},
        call::Interface,
        handles::{HeldByGuest, ResourceKind},
    },
    http::{outgoing_body, requests, short_texts},
};

impl HeldByGuest for HostOutgoingRequest {
    const KIND: ResourceKind = ResourceKind::OutgoingRequest;
}

impl HeldByGuest for RequestOptions {
    const KIND: ResourceKind = ResourceKind::RequestOptions;
}

impl HeldByGuest for HostOutgoingResponse {
    const KIND: ResourceKind = ResourceKind::OutgoingResponse;
}

impl HeldByGuest for HostOutgoingBody {
    const KIND: ResourceKind = ResourceKind::OutgoingBody;
}

impl HeldByGuest for HostResponseOutparam {
    const KIND: ResourceKind = ResourceKind::ResponseOutparam;
}

type MadeBody = Result<Resource<HostOutgoingBody>, ()>;
type Changed = Result<(), ()>;
type LentRequest = Lent<HostOutgoingRequest>;

pub(super) fn outgoing_requests(types: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    types
        .call::<fn(u32) -> u32, _, Resource<HostOutgoingRequest>>(
            "[constructor]outgoing-request",
            |host, (Own(fields),): (Own<FieldMap>,)| {
                RequestFunctions::new(&mut host.http(), fields)
            },
        )?
        .call::<fn(u32, u32), _, MadeBody>(
            "[method]outgoing-request.body",
            |host, (Lent(request),)| RequestFunctions::body(&mut host.http(), request),
        )?
        .call::<fn(u32, u32), _, _>("[method]outgoing-request.method", |host, (Lent(request),)| {
            RequestFunctions::method(&mut host.http(), request)
        })?
        .call::<fn(u32, u32, u32, u32) -> u32, _, Changed>(
            "[method]outgoing-request.set-method",
            |host, (Lent(request), method): (LentRequest, Method)| {
                short_texts::set_method(host, request, method)
            },
        )?
        .call::<fn(u32, u32), _, _>(
            "[method]outgoing-request.path-with-query",
            |host, (Lent(request),)| RequestFunctions::path_with_query(&mut host.http(), request),
        )?
        .call::<fn(u32, u32, u32, u32) -> u32, _, Changed>(
            "[method]outgoing-request.set-path-with-query",
            |host, (Lent(request), path): (LentRequest, Option<String>)| {
                host.http().set_path_with_query(request, path)
            },
        )?
        .call::<fn(u32, u32), _, Option<Scheme>>(
            "[method]outgoing-request.scheme",
            |host, (Lent(request),)| RequestFunctions::scheme(&mut host.http(), request),
        )?
        .call::<fn(u32, u32, u32, u32, u32) -> u32, _, Changed>(
            "[method]outgoing-request.set-scheme",
            |host, (Lent(request), scheme): (LentRequest, Option<Scheme>)| {
                host.http().set_scheme(request, scheme)
            },
        )?
        .call::<fn(u32, u32), _, _>(
            "[method]outgoing-request.authority",
            |host, (Lent(request),)| RequestFunctions::authority(&mut host.http(), request),
        )?
        .call::<fn(u32, u32, u32, u32) -> u32, _, Changed>(
            "[method]outgoing-request.set-authority",
            |host, (Lent(request), authority): (LentRequest, Option<String>)| {
                host.http().set_authority(request, authority)
            },
        )?
        .call::<fn(u32) -> u32, _, Resource<FieldMap>>(
            "[method]outgoing-request.headers",
            |host, (Lent(request),)| RequestFunctions::headers(&mut host.http(), request),
        )?
        .call::<fn(u32), _, _>("[resource-drop]outgoing-request", |host, (Own(request),)| {
            RequestFunctions::drop(&mut host.http(), request)
        })?;
    Ok(())
}

type LentOptions = Lent<RequestOptions>;

pub(super) fn options(types: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    types
        .call::<fn() -> u32, _, Resource<RequestOptions>>(
            "[constructor]request-options",
            |host, ()| OptionFunctions::new(&mut host.http()),
        )?
        .call::<fn(u32, u32), _, _>(
            "[method]request-options.connect-timeout",
            |host, (Lent(options),)| host.http().connect_timeout(options),
        )?
        .call::<fn(u32, u32, u64) -> u32, _, Changed>(
            "[method]request-options.set-connect-timeout",
            |host, (Lent(options), duration): (LentOptions, Option<u64>)| {
                host.http().set_connect_timeout(options, duration)
            },
        )?
        .call::<fn(u32, u32), _, _>(
            "[method]request-options.first-byte-timeout",
            |host, (Lent(options),)| host.http().first_byte_timeout(options),
        )?
        .call::<fn(u32, u32, u64) -> u32, _, Changed>(
            "[method]request-options.set-first-byte-timeout",
            |host, (Lent(options), duration): (LentOptions, Option<u64>)| {
                host.http().set_first_byte_timeout(options, duration)
            },
        )?
        .call::<fn(u32, u32), _, _>(
            "[method]request-options.between-bytes-timeout",
            |host, (Lent(options),)| host.http().between_bytes_timeout(options),
        )?
        .call::<fn(u32, u32, u64) -> u32, _, Changed>(
            "[method]request-options.set-between-bytes-timeout",
            |host, (Lent(options), duration): (LentOptions, Option<u64>)| {
                host.http().set_between_bytes_timeout(options, duration)
            },
        )?
        .call::<fn(u32), _, _>("[resource-drop]request-options", |host, (Own(options),)| {
            OptionFunctions::drop(&mut host.http(), options)
        })?;
    Ok(())
}

type GivenResponse = Result<Own<HostOutgoingResponse>, ErrorCode>;

pub(super) fn responses(types: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    types
        .call::<fn(u32) -> u32, _, Resource<HostOutgoingResponse>>(
            "[constructor]outgoing-response",
            |host, (Own(fields),): (Own<FieldMap>,)| {
                ResponseFunctions::new(&mut host.http(), fields)
            },
        )?
        .call::<fn(u32) -> u32, _, u16>(
            "[method]outgoing-response.status-code",
            |host, (Lent(response),)| host.http().status_code(response),
        )?
        .call::<fn(u32, u32) -> u32, _, Changed>(
            "[method]outgoing-response.set-status-code",
            |host, (Lent(response), status): (Lent<HostOutgoingResponse>, u16)| {
                host.http().set_status_code(response, status)
            },
        )?
        .call::<fn(u32) -> u32, _, Resource<FieldMap>>(
            "[method]outgoing-response.headers",
            |host, (Lent(response),)| ResponseFunctions::headers(&mut host.http(), response),
        )?
        .call::<fn(u32, u32), _, MadeBody>(
            "[method]outgoing-response.body",
            |host, (Lent(response),)| outgoing_body::body_of(host, &response),
        )?
        .call::<fn(u32), _, _>("[resource-drop]outgoing-response", |host, (Own(response),)| {
            ResponseFunctions::drop(&mut host.http(), response)
        })?
        .call::<fn(u32, u32, u32, u32, u64, u32, u32, u32, u32), _, _>(
            "[static]response-outparam.set",
            |host, (Own(outparam), response): (Own<HostResponseOutparam>, GivenResponse)| {
                let response = response.map(|Own(response)| response);
                OutparamFunctions::set(&mut host.http(), outparam, response)
            },
        )?
        .call::<fn(u32), _, _>("[resource-drop]response-outparam", |host, (Own(outparam),)| {
            OutparamFunctions::drop(&mut host.http(), outparam)
        })?
        .call::<fn(u32, u32), _, Result<Resource<DynOutputStream>, ()>>(
            "[method]outgoing-body.write",
            |host, (Lent(body),)| outgoing_body::stream_of(host, body),
        )?
        .call::<fn(u32, u32, u32, u32), _, Result<(), ErrorCode>>(
            "[static]outgoing-body.finish",
            |host, (Own(body), trailers): (Own<HostOutgoingBody>, Option<Own<FieldMap>>)| {
                outgoing_body::finish(host, body, trailers.map(|Own(trailers)| trailers))
            },
        )?
        .call::<fn(u32), _, _>("[resource-drop]outgoing-body", |host, (Own(body),)| {
            outgoing_body::abandon(host, body)
        })?;
    Ok(())
}

pub(super) fn handler(handler: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    handler.call::<fn(u32, u32, u32, u32), _, requests::Sent>(
        "handle",
        |host, (Own(request), options): (Own<HostOutgoingRequest>, Option<Own<RequestOptions>>)| {
            requests::send(host, request, options.map(|Own(options)| options))
        },
    )?;
    Ok(())
}
