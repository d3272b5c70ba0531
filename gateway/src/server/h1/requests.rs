//! Finds the requests of an HTTP/1 connection in the bytes that arrive.

use super::framing::{
    ChunkState, Framing, HeadLimits, RequestHead, RequestRejection, has_end, head,
};

/// Tracks which part of a request comes next.
#[derive(Debug)]
pub(crate) struct RequestTracker {
    limits: HeadLimits,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    /// A head, or the rest of one.
    Head,
    /// So many bytes of a body.
    Body(u64),
    /// A chunked body, or the rest of one.
    Chunks(ChunkState),
}

/// Which of the inspected bytes may be passed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inspected {
    /// The number of these bytes, from the first.
    pub(crate) pass: usize,
    /// The kind of the remaining bytes.
    pub(crate) remainder: Remainder,
}

/// The bytes that may not be passed on, if there are any.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Remainder {
    /// An incomplete head: inspect it again when more bytes have arrived.
    Incomplete,
    /// A head of so many bytes, to be passed on by `with_encoded_target`. Inspect what follows it.
    Unencoded(usize),
    /// A rejected request, the connection's last.
    Rejected(RequestRejection),
    /// Part of a body whose end cannot be found.
    Broken(&'static str),
}

impl RequestTracker {
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self { limits, expected: Expected::Head }
    }

    /// Whether the bytes that were passed on end between two requests.
    pub(crate) fn is_between_requests(&self) -> bool {
        matches!(self.expected, Expected::Head)
    }

    /// Whether an incomplete head should be inspected again, of which `from` bytes were there
    /// before.
    pub(crate) fn should_inspect(&self, head: &[u8], from: usize) -> bool {
        head.len() > self.limits.bytes || has_end(head, from)
    }

    /// Inspects the bytes that follow those which were passed on.
    pub(crate) fn inspect(&mut self, bytes: &[u8]) -> Inspected {
        let mut at = 0;
        // Where the current request begins, if nothing of it was passed on yet.
        let mut begin = None;
        while at < bytes.len() {
            match &mut self.expected {
                Expected::Head => match head(&bytes[at..], &self.limits) {
                    Ok(Some(RequestHead { bytes: head, framing, unencoded })) => {
                        begin = Some(at);
                        at += head;
                        self.expected = match framing {
                            Framing::Length(0) => Expected::Head,
                            Framing::Length(left) => Expected::Body(left),
                            Framing::Chunked => Expected::Chunks(ChunkState::BEGIN),
                        };
                        if unencoded > 0 {
                            let remainder = Remainder::Unencoded(head);
                            return Inspected { pass: at - head, remainder };
                        }
                    }
                    Ok(None) if bytes.len() - at > self.limits.bytes => {
                        let rejection = RequestRejection::HeadBytes(self.limits.bytes);
                        return Inspected { pass: at, remainder: Remainder::Rejected(rejection) };
                    }
                    Ok(None) => {
                        return Inspected { pass: at, remainder: Remainder::Incomplete };
                    }
                    Err(rejection) => {
                        return Inspected { pass: at, remainder: Remainder::Rejected(rejection) };
                    }
                },
                Expected::Body(left) => {
                    let rest = bytes.len() - at;
                    let here = rest.min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= here as u64;
                    at += here;
                    if *left == 0 {
                        self.expected = Expected::Head;
                    }
                }
                Expected::Chunks(chunks) => match chunks.advance(&bytes[at..]) {
                    Ok(here) => {
                        at += here;
                        if *chunks == ChunkState::End {
                            self.expected = Expected::Head;
                        }
                    }
                    Err((valid, wrong)) => {
                        return match begin {
                            // The head has not been passed on: the request can be rejected whole.
                            Some(begin) => {
                                let rejection = RequestRejection::Malformed(wrong);
                                Inspected { pass: begin, remainder: Remainder::Rejected(rejection) }
                            }
                            None => {
                                Inspected { pass: at + valid, remainder: Remainder::Broken(wrong) }
                            }
                        };
                    }
                },
            }
        }
        Inspected { pass: at, remainder: Remainder::Incomplete }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 100, fields: 8, target_bytes: 100 };
    const CHUNKED: &str = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";

    fn inspect(requests: &mut RequestTracker, text: &str) -> (usize, Remainder) {
        let inspected = requests.inspect(text.as_bytes());
        (inspected.pass, inspected.remainder)
    }

    #[test]
    fn complete_requests_pass_and_the_beginning_of_the_next_one_waits() {
        let mut requests = RequestTracker::new(LIMITS);
        let text = format!("{CHUNKED}1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\nGET /b");
        assert_eq!(inspect(&mut requests, &text), (text.len() - 6, Remainder::Incomplete));
        assert!(requests.is_between_requests());
        let body = "POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc";
        assert_eq!(inspect(&mut requests, body), (body.len(), Remainder::Incomplete));
        assert!(!requests.is_between_requests());
        assert_eq!(inspect(&mut requests, "defghijGET"), (7, Remainder::Incomplete));
    }

    #[test]
    fn a_head_that_must_be_encoded_is_handed_over_on_its_own() {
        let mut requests = RequestTracker::new(LIMITS);
        let (before, head) =
            ("GET / HTTP/1.1\r\n\r\n", "POST /?\" HTTP/1.1\r\ncontent-length: 3\r\n\r\n");
        let text = format!("{before}{head}abcGET");
        let expected = (before.len(), Remainder::Unencoded(head.len()));
        assert_eq!(inspect(&mut requests, &text), expected);
        assert_eq!(inspect(&mut requests, "abcGET"), (3, Remainder::Incomplete));
        assert!(requests.is_between_requests());
    }

    #[test]
    fn a_request_with_an_invalid_body_is_rejected_whole_if_its_head_has_not_passed() {
        let mut requests = RequestTracker::new(LIMITS);
        let (pass, remainder) = inspect(&mut requests, &format!("{CHUNKED}x"));
        assert_eq!(pass, 0);
        assert!(
            matches!(remainder, Remainder::Rejected(RequestRejection::Malformed(_))),
            "{remainder:?}"
        );
    }

    #[test]
    fn a_body_that_becomes_invalid_after_its_head_passed_is_broken() {
        let mut requests = RequestTracker::new(LIMITS);
        assert_eq!(inspect(&mut requests, CHUNKED), (CHUNKED.len(), Remainder::Incomplete));
        let (pass, remainder) = inspect(&mut requests, "1\r\na\r\nx");
        assert_eq!(pass, 6);
        assert!(matches!(remainder, Remainder::Broken(_)), "{remainder:?}");
    }

    #[test]
    fn a_head_beyond_its_limit_is_rejected_without_its_end() {
        let mut requests = RequestTracker::new(LIMITS);
        let text = format!("GET / HTTP/1.1\r\na: {:b<100}", "");
        let rejected = Remainder::Rejected(RequestRejection::HeadBytes(100));
        assert!(requests.should_inspect(text.as_bytes(), 0));
        assert_eq!(inspect(&mut requests, &text), (0, rejected));
    }
}
