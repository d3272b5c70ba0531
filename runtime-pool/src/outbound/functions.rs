//! Requests of guests to other functions of this gateway. No socket carries them.
//!
//! `http://{name}.mayfly.internal/` names a function of the same owner. The name reaches no name
//! server. The gateway calls the function, and the limits of outbound requests hold as for any server.

mod call;

use std::{error::Error as StdError, pin::Pin, sync::Arc};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

use super::cdn_loop::CdnLoop;

/// The body of a request to a function, or of its answer.
pub type FunctionBody = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;
/// The answer of a function, or of the gateway in its place.
pub type FunctionAnswer = Pin<Box<dyn Future<Output = http::Response<FunctionBody>> + Send>>;

/// A request of a guest to another function.
pub struct FunctionRequest {
    /// The owner of both functions.
    pub tenant: Arc<str>,
    /// The name of the function that calls.
    pub caller: Arc<str>,
    /// The invocation in which it does.
    pub invocation: u128,
    /// The other calls of the client of that invocation.
    pub others: usize,
    /// What the address names: the host without `.mayfly.internal`.
    pub function: Box<str>,
    /// In the form of HTTP/1.1, with the gateways that it has passed.
    pub request: http::Request<FunctionBody>,
}

/// Calls functions for guests. The pool does not know which functions there are, nor who may call
/// them.
pub trait FunctionCalls: Send + Sync {
    /// Calls a function. The call ends with the answer's body, or when that or this is dropped.
    fn call(self: Arc<Self>, request: FunctionRequest) -> FunctionAnswer;
}

/// What an invocation inherits from the request that caused it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestOrigin {
    /// The gateways that the request has passed.
    pub(crate) cdn_loop: Option<CdnLoop>,
    /// The other calls of its client.
    pub(crate) others: usize,
}
