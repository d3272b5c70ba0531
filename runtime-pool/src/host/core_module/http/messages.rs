//! What comes in: requests and responses of others, and their bodies.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynInputStream, DynPollable};
use wasmtime_wasi_http::{
    FieldMap, WasiHttpView as _,
    p2::{
        bindings::http::types::{
            ErrorCode, Host as _, HostFutureIncomingResponse as ResponseFunctions,
            HostFutureTrailers as TrailerFunctions, HostIncomingBody as BodyFunctions,
            HostIncomingRequest as RequestFunctions, HostIncomingResponse as AnswerFunctions,
        },
        body::{HostFutureTrailers, HostIncomingBody},
        types::{HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse},
    },
};

use crate::host::core_module::{
    abi::{Lent, Own},
    call::Interface,
    handles::{HeldByGuest, ResourceKind},
};

impl HeldByGuest for HostIncomingRequest {
    const KIND: ResourceKind = ResourceKind::IncomingRequest;
}

impl HeldByGuest for HostIncomingResponse {
    const KIND: ResourceKind = ResourceKind::IncomingResponse;
}

impl HeldByGuest for HostFutureIncomingResponse {
    const KIND: ResourceKind = ResourceKind::FutureIncomingResponse;
}

impl HeldByGuest for HostIncomingBody {
    const KIND: ResourceKind = ResourceKind::IncomingBody;
}

impl HeldByGuest for HostFutureTrailers {
    const KIND: ResourceKind = ResourceKind::FutureTrailers;
}

type ConsumedBody = Result<Resource<HostIncomingBody>, ()>;

pub(super) fn incoming(types: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    types
        .call::<fn(u32, u32), _, _>("[method]incoming-request.method", |host, (Lent(request),)| {
            RequestFunctions::method(&mut host.http(), request)
        })?
        .call::<fn(u32, u32), _, _>(
            "[method]incoming-request.path-with-query",
            |host, (Lent(request),)| RequestFunctions::path_with_query(&mut host.http(), request),
        )?
        .call::<fn(u32, u32), _, _>("[method]incoming-request.scheme", |host, (Lent(request),)| {
            RequestFunctions::scheme(&mut host.http(), request)
        })?
        .call::<fn(u32, u32), _, _>(
            "[method]incoming-request.authority",
            |host, (Lent(request),)| RequestFunctions::authority(&mut host.http(), request),
        )?
        .call::<fn(u32) -> u32, _, Resource<FieldMap>>(
            "[method]incoming-request.headers",
            |host, (Lent(request),)| RequestFunctions::headers(&mut host.http(), request),
        )?
        .call::<fn(u32, u32), _, ConsumedBody>(
            "[method]incoming-request.consume",
            |host, (Lent(request),)| RequestFunctions::consume(&mut host.http(), request),
        )?
        .call::<fn(u32), _, _>("[resource-drop]incoming-request", |host, (Own(request),)| {
            RequestFunctions::drop(&mut host.http(), request)
        })?
        .call::<fn(u32) -> u32, _, u16>(
            "[method]incoming-response.status",
            |host, (Lent(response),)| AnswerFunctions::status(&mut host.http(), response),
        )?
        .call::<fn(u32) -> u32, _, Resource<FieldMap>>(
            "[method]incoming-response.headers",
            |host, (Lent(response),)| AnswerFunctions::headers(&mut host.http(), response),
        )?
        .call::<fn(u32, u32), _, ConsumedBody>(
            "[method]incoming-response.consume",
            |host, (Lent(response),)| AnswerFunctions::consume(&mut host.http(), response),
        )?
        .call::<fn(u32), _, _>("[resource-drop]incoming-response", |host, (Own(response),)| {
            AnswerFunctions::drop(&mut host.http(), response)
        })?
        .call::<fn(u32) -> u32, _, Resource<DynPollable>>(
            "[method]future-incoming-response.subscribe",
            |host, (Lent(response),)| ResponseFunctions::subscribe(&mut host.http(), response),
        )?
        .call::<fn(u32, u32), _, _>(
            "[method]future-incoming-response.get",
            |host, (Lent(response),)| ResponseFunctions::get(&mut host.http(), response),
        )?
        .call::<fn(u32), _, _>(
            "[resource-drop]future-incoming-response",
            |host, (Own(response),)| ResponseFunctions::drop(&mut host.http(), response),
        )?
        .call::<fn(u32, u32), _, Option<ErrorCode>>("http-error-code", |host, (Lent(error),)| {
            host.http().http_error_code(error)
        })?;
    Ok(())
}

pub(super) fn bodies(types: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    types
        .call::<fn(u32, u32), _, Result<Resource<DynInputStream>, ()>>(
            "[method]incoming-body.stream",
            |host, (Lent(body),)| BodyFunctions::stream(&mut host.http(), body),
        )?
        .call::<fn(u32) -> u32, _, Resource<HostFutureTrailers>>(
            "[static]incoming-body.finish",
            |host, (Own(body),)| BodyFunctions::finish(&mut host.http(), body),
        )?
        .call::<fn(u32), _, _>("[resource-drop]incoming-body", |host, (Own(body),)| {
            BodyFunctions::drop(&mut host.http(), body)
        })?
        .call::<fn(u32) -> u32, _, Resource<DynPollable>>(
            "[method]future-trailers.subscribe",
            |host, (Lent(trailers),)| TrailerFunctions::subscribe(&mut host.http(), trailers),
        )?
        .call::<fn(u32, u32), _, _>("[method]future-trailers.get", |host, (Lent(trailers),)| {
            TrailerFunctions::get(&mut host.http(), trailers)
        })?
        .call::<fn(u32), _, _>("[resource-drop]future-trailers", |host, (Own(trailers),)| {
            TrailerFunctions::drop(&mut host.http(), trailers)
        })?;
    Ok(())
}
