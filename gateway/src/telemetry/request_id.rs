//! Ids of requests and invocations, as logs and responses name them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::HeaderValue;

/// Bits of an id that count the invocations of a connection: enough for months of them.
pub(crate) const INVOCATION_BITS: u32 = 40;
/// Bits of an id that count connections.
const CONNECTION_BITS: u32 = 36;

/// Makes the ids of one process.
#[derive(Debug)]
pub(crate) struct RequestIdSource {
    process: u64,
    connections: AtomicU64,
}

/// Makes the ids of the invocations that come over one connection. An id is unique within the
/// process, and very likely among processes.
#[derive(Debug)]
pub(crate) struct RequestIds {
    connection: u128,
    used: AtomicU64,
}

impl RequestIdSource {
    /// `process` should differ from one start of the gateway to the next.
    pub(crate) fn new(process: u64) -> Self {
        Self { process, connections: AtomicU64::new(0) }
    }

    /// Ids for one more connection. Its requests count for themselves: a counter that all threads
    /// share would slow each of them down.
    pub(crate) fn for_connection(&self) -> RequestIds {
        let process = u128::from(self.process) << CONNECTION_BITS;
        let connection = process + u128::from(self.connections.fetch_add(1, Relaxed));
        RequestIds { connection: connection << INVOCATION_BITS, used: AtomicU64::new(0) }
    }
}

impl RequestIds {
    /// The id of the connection's next invocation.
    pub(crate) fn next(&self) -> u128 {
        self.connection + u128::from(self.used.fetch_add(1, Relaxed))
    }
}

/// An id as 32 hexadecimal digits.
pub(crate) fn id_text(invocation: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (index, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[(invocation >> (124 - 4 * index)) as usize & 0xf];
    }
    text
}

/// An id as the value of a header.
pub(crate) fn id_header(invocation: u128) -> HeaderValue {
    let text = Bytes::copy_from_slice(&id_text(invocation));
    HeaderValue::from_maybe_shared(text).expect("hexadecimal digits are a valid header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_number_in_hexadecimal() {
        let number = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
        assert_eq!(id_text(number), *b"0123456789abcdef0011223344556677");
    }

    #[test]
    fn no_two_invocations_have_the_same_id() {
        let source = RequestIdSource::new(7);
        let connections = [source.for_connection(), source.for_connection()];
        let mut ids: Vec<_> = connections.iter().flat_map(|ids| [ids.next(), ids.next()]).collect();
        ids.dedup();
        assert_eq!(ids.len(), 4);
        assert!(ids.is_sorted(), "{ids:x?}");
    }
}
