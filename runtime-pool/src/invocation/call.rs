//! The words of a call: who calls, with which request and answer.

use std::{net::SocketAddr, sync::Arc};

use wasmtime_wasi_http::WasiBody;

use crate::{
    invocation::body::{RequestBody, ResponseBody},
    outbound::CdnLoop,
};

/// A request on its way to a guest.
pub(crate) type Request = http::Request<RequestBody>;
/// A response on its way from a guest.
pub type Response = http::Response<ResponseBody>;

/// What a guest's executor sends when the guest has decided on the head of its response; or the
/// guest's own error instead of one.
pub(crate) type Head = Result<http::Response<WasiBody>, String>;

/// Who calls, and by what address. Guests of the CGI kind are told.
#[derive(Clone, Debug)]
pub struct InvocationContext {
    /// Names the invocation in logs and answers.
    pub invocation: u128,
    /// The client's end of the connection.
    pub peer: SocketAddr,
    /// The part of the path that led to the function, without a slash at its end; may be empty.
    pub mount: Arc<str>,
    /// The gateways that the request has come through, if any.
    pub trail: Option<CdnLoop>,
}
