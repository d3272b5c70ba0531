//! Names for invocations, and the answers to those that came to nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::{HeaderValue, Response};
use prometheus::{IntCounterVec, Opts, Registry};

use crate::{
    problem::{Problem, REQUEST_ID},
    request::limited_body::EdgeBody,
};

/// Gives invocations their names, and answers the requests that were refused or failed.
#[derive(Debug)]
pub(crate) struct Rejections {
    process: u64,
    connections: AtomicU64,
    problems: IntCounterVec,
}

/// Names for the invocations that come over one connection. A name is unique within the process,
/// and among processes by chance.
#[derive(Debug)]
pub(crate) struct RequestIds {
    connection: u128,
    used: AtomicU64,
}

/// Bits of a name that count a connection's invocations: enough for months of them.
pub(crate) const INVOCATION_BITS: u32 = 40;
/// Bits of a name that count connections.
const CONNECTION_BITS: u32 = 36;

impl RequestIds {
    /// The name of the connection's next invocation.
    pub(crate) fn next(&self) -> u128 {
        self.connection + u128::from(self.used.fetch_add(1, Relaxed))
    }
}

impl Rejections {
    /// `process` should differ from one start of the gateway to the next.
    pub(crate) fn new(process: u64, registry: &Registry) -> prometheus::Result<Self> {
        let problems = IntCounterVec::new(
            Opts::new("mayfly_problems_total", "Requests to functions refused or failed, by type"),
            &["type"],
        )?;
        registry.register(Box::new(problems.clone()))?;
        Ok(Self { process, connections: AtomicU64::new(0), problems })
    }

    /// Names for one more connection: its requests need not ask here, where all threads meet.
    pub(crate) fn names(&self) -> RequestIds {
        let process = u128::from(self.process) << CONNECTION_BITS;
        let connection = process + u128::from(self.connections.fetch_add(1, Relaxed));
        RequestIds { connection: connection << INVOCATION_BITS, used: AtomicU64::new(0) }
    }

    /// The answer to a request that was refused or failed.
    pub(crate) fn answer(&self, problem: Problem, invocation: u128) -> Response<EdgeBody> {
        self.problems.with_label_values(&[problem.slug()]).inc();
        let mut response = problem.for_invocation(invocation).into_edge_response();
        response.headers_mut().insert(REQUEST_ID, id_header(invocation));
        response
    }
}

/// An invocation's name as 32 hexadecimal digits.
pub(crate) fn id_text(invocation: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (index, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[(invocation >> (124 - 4 * index)) as usize & 0xf];
    }
    text
}

pub(crate) fn id_header(invocation: u128) -> HeaderValue {
    let text = Bytes::copy_from_slice(&id_text(invocation));
    HeaderValue::from_maybe_shared(text).expect("hexadecimal digits are a header's value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocations_name_is_its_number_in_hexadecimal() {
        let number = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
        assert_eq!(id_text(number), *b"0123456789abcdef0011223344556677");
    }

    #[test]
    fn no_two_invocations_have_the_same_name() {
        let refusals = Rejections::new(7, &Registry::new()).unwrap();
        let connections = [refusals.names(), refusals.names()];
        let mut names: Vec<_> =
            connections.iter().flat_map(|names| [names.next(), names.next()]).collect();
        names.dedup();
        assert_eq!(names.len(), 4);
        assert!(names.is_sorted(), "{names:x?}");
    }
}
