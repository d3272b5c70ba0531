//! Names for invocations, and the answers to those that came to nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::{HeaderValue, Response};
use prometheus::{IntCounterVec, Opts, Registry};

use crate::{
    body::EdgeBody,
    problem::{Problem, REQUEST_ID},
};

/// Gives invocations their names, and answers the requests that were refused or failed.
///
/// A name is unique within the process, and among processes by chance.
#[derive(Debug)]
pub(crate) struct Refusals {
    process: u64,
    next: AtomicU64,
    problems: IntCounterVec,
}

impl Refusals {
    /// `process` should differ from one start of the gateway to the next.
    pub(crate) fn new(process: u64, registry: &Registry) -> prometheus::Result<Self> {
        let problems = IntCounterVec::new(
            Opts::new("mayfly_problems_total", "Requests to functions refused or failed, by type"),
            &["type"],
        )?;
        registry.register(Box::new(problems.clone()))?;
        Ok(Self { process, next: AtomicU64::new(0), problems })
    }

    /// The name of the next invocation.
    pub(crate) fn next_invocation(&self) -> u128 {
        u128::from(self.process) << 64 | u128::from(self.next.fetch_add(1, Relaxed))
    }

    /// The answer to an invocation that was refused or failed.
    pub(crate) fn answer(&self, problem: Problem, invocation: u128) -> Response<EdgeBody> {
        self.problems.with_label_values(&[problem.slug()]).inc();
        let mut response = problem.for_invocation(invocation).into_edge_response();
        response.headers_mut().insert(REQUEST_ID, id_header(invocation));
        response
    }

    /// The answer to a request that became no invocation. It has a name all the same.
    pub(crate) fn refuse(&self, problem: Problem) -> Response<EdgeBody> {
        self.answer(problem, self.next_invocation())
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
}
