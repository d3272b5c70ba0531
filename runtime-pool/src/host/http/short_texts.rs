//! Texts that a guest hands over without a limit of their own: methods, and the errors that end a body.
//!
//! Only a method that is short is one. An error waits in the host until somebody asks for it, and the
//! table of resources does not know it, so its text is cut before it is kept.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::oneshot;
use wasmtime::{
    StoreContextMut,
    component::{Access, FutureConsumer, FutureReader, Linker, Resource, Source, StreamReader},
};
use wasmtime_wasi_http::{
    FieldMap, WasiHttp, WasiHttpView as _,
    p2::{self, types::HostOutgoingRequest},
    p3::{
        Request, Response,
        bindings::http::types::{
            ErrorCode, FieldSizePayload, HostRequest as _, HostRequestWithStore,
            HostResponseWithStore, Method,
        },
    },
};

use crate::host::Host;

const TYPES_02: &str = "wasi:http/types@0.2.12";
const TYPES_03: &str = "wasi:http/types@0.3.0";
/// Bytes of a text that are kept.
const TEXT_BYTES: usize = 256;

/// What says how sending or receiving a body has ended.
type Sent = FutureReader<Result<(), ErrorCode>>;
type Trailers = FutureReader<Result<Option<Resource<FieldMap>>, ErrorCode>>;
type Consumed = (StreamReader<u8>, Trailers);

/// What a response is made of.
type ResponseParts = (Resource<FieldMap>, Option<StreamReader<u8>>, Trailers);

/// Replaces the functions of WASI 0.2 that take over such texts.
pub(in crate::host) fn shorten_02(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    use p2::bindings::http::types::Method;

    linker.allow_shadowing(true);
    linker.instance(TYPES_02)?.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, Host>,
         (request, method): (Resource<HostOutgoingRequest>, Method)| {
            Ok((set_method(store.data_mut(), request, method)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

pub(in crate::host) fn set_method(
    host: &mut Host,
    request: Resource<HostOutgoingRequest>,
    method: p2::bindings::http::types::Method,
) -> wasmtime::Result<Result<(), ()>> {
    use p2::bindings::http::types::{HostOutgoingRequest as Request, Method};

    if matches!(&method, Method::Other(name) if name.len() > TEXT_BYTES) {
        return Ok(Err(()));
    }
    Request::set_method(&mut host.http(), request, method)
}

/// Replaces those of WASI 0.3. Also notes that a response was made, because a guest that writes much
/// of its body before it gives it waits for ever.
pub(in crate::host) fn shorten_03(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES_03)?;
    types.func_wrap(
        "[method]request.set-method",
        |mut store: StoreContextMut<'_, Host>, (request, method): (Resource<Request>, Method)| {
            if matches!(&method, Method::Other(name) if name.len() > TEXT_BYTES) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_method(request, method)?,))
        },
    )?;
    types.func_wrap(
        "[static]response.new",
        |mut store: StoreContextMut<'_, Host>, (headers, contents, trailers): ResponseParts| {
            store.data_mut().limits.make_response();
            let access = Access::<_, WasiHttp>::new(store, Host::http);
            let made: (Resource<Response>, Sent) = <WasiHttp as HostResponseWithStore<Host>>::new(
                access, headers, contents, trailers,
            )?;
            Ok((made,))
        },
    )?;
    types.func_wrap(
        "[static]request.consume-body",
        |mut store: StoreContextMut<'_, Host>, (request, sent): (Resource<Request>, Sent)| {
            let sent = shortened(&mut store, sent)?;
            let access = Access::<_, WasiHttp>::new(store, Host::http);
            let consumed: Consumed =
                <WasiHttp as HostRequestWithStore<Host>>::consume_body(access, request, sent)?;
            Ok((consumed,))
        },
    )?;
    types.func_wrap(
        "[static]response.consume-body",
        |mut store: StoreContextMut<'_, Host>, (response, sent): (Resource<Response>, Sent)| {
            let sent = shortened(&mut store, sent)?;
            let access = Access::<_, WasiHttp>::new(store, Host::http);
            let consumed: Consumed =
                <WasiHttp as HostResponseWithStore<Host>>::consume_body(access, response, sent)?;
            Ok((consumed,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn shortened(store: &mut StoreContextMut<'_, Host>, sent: Sent) -> wasmtime::Result<Sent> {
    let (sender, receiver) = oneshot::channel();
    sent.pipe(&mut *store, Shorten(Some(sender)))?;
    FutureReader::new(store, receiver)
}

/// Passes a result on.
struct Shorten(Option<oneshot::Sender<Result<(), ErrorCode>>>);

impl FutureConsumer<Host> for Shorten {
    type Item = Result<(), ErrorCode>;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        mut store: StoreContextMut<'_, Host>,
        mut source: Source<'_, Self::Item>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut result = None;
        source.read(&mut store, &mut result)?;
        if let (Some(result), Some(sender)) = (result, self.0.take()) {
            // There is no receiver if nobody will ask.
            let _ = sender.send(result.map_err(shorten));
        }
        Poll::Ready(Ok(()))
    }
}

fn shorten(mut error: ErrorCode) -> ErrorCode {
    let text = match &mut error {
        ErrorCode::InternalError(text) => text.as_mut(),
        ErrorCode::DnsError(detail) => detail.rcode.as_mut(),
        ErrorCode::TlsAlertReceived(detail) => detail.alert_message.as_mut(),
        ErrorCode::HttpRequestHeaderSize(Some(field))
        | ErrorCode::HttpRequestTrailerSize(field)
        | ErrorCode::HttpResponseHeaderSize(field)
        | ErrorCode::HttpResponseTrailerSize(field) => field_name(field),
        // The others have no text.
        _ => None,
    };
    if let Some(text) = text.filter(|text| text.len() > TEXT_BYTES) {
        text.truncate(text.floor_char_boundary(TEXT_BYTES));
        text.shrink_to_fit();
    }
    error
}

fn field_name(field: &mut FieldSizePayload) -> Option<&mut String> {
    field.field_name.as_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_two_characters() {
        let long = "ü".repeat(TEXT_BYTES);
        let ErrorCode::InternalError(Some(text)) =
            shorten(ErrorCode::InternalError(Some(format!("a{long}"))))
        else {
            panic!()
        };
        assert_eq!(text.len(), TEXT_BYTES - 1);
        let short = ErrorCode::InternalError(Some("short".into()));
        assert!(matches!(shorten(short), ErrorCode::InternalError(Some(text)) if text == "short"));
    }
}
