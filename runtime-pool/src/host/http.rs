//! Functions of `wasi:http` that are ours: where the library's would let a guest fill the gateway's own
//! log, hand over texts without a limit, or pay more for a response than it takes.

pub(crate) mod outgoing_body;
pub(super) mod requests;
pub(super) mod short_texts;
