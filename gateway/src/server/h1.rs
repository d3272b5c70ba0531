//! Inspects the bytes of HTTP/1 before the protocol library reads them.

#[doc(hidden)]
pub mod framing;
pub(crate) mod inspecting_io;
pub(crate) mod requests;
