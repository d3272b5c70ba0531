//! The bytes of HTTP/1 before the protocol library reads them.

#[doc(hidden)]
pub mod framing;
pub(crate) mod requests;
pub(crate) mod wire;
