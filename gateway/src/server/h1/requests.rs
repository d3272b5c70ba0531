//! Follows the requests of an HTTP/1 connection through the bytes that arrive.

use super::framing::{Chunks, Framing, Head, HeadLimits, Refused, has_end, head};

/// Knows where in its requests a connection is.
#[derive(Debug)]
pub(crate) struct RequestTracker {
    limits: HeadLimits,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Before or in a head.
    Head,
    /// So far from the end of a body.
    Body(u64),
    /// In a body of chunks.
    Chunks(Chunks),
}

/// What was seen in some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// How many of them may be passed on.
    pub(crate) pass: usize,
    /// What is to become of the others.
    pub(crate) rest: Rest,
}

/// What is to become of bytes that may not be passed on, if there are any.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// They begin a head; look again when there are more.
    Wait,
    /// They begin a request that is refused, the connection's last.
    Refuse(Refused),
    /// They are in a body whose end cannot be known.
    Broken(&'static str),
}

impl RequestTracker {
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self { limits, state: State::Head }
    }

    /// Whether the connection is between two requests, as far as bytes were passed on.
    pub(crate) fn between(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// Whether it is worth looking at a head that has been waited for. `from` is how many bytes of
    /// it were there before.
    pub(crate) fn worth_a_look(&self, head: &[u8], from: usize) -> bool {
        head.len() > self.limits.bytes || has_end(head, from)
    }

    /// Looks at bytes that follow those which were passed on.
    pub(crate) fn look(&mut self, bytes: &[u8]) -> Seen {
        let mut at = 0;
        // Where the request began that is being read, if nothing of it was passed on yet.
        let mut begun = None;
        while at < bytes.len() {
            match &mut self.state {
                State::Head => match head(&bytes[at..], &self.limits) {
                    Ok(Some(Head { bytes, framing })) => {
                        begun = Some(at);
                        at += bytes;
                        self.state = match framing {
                            Framing::Length(0) => State::Head,
                            Framing::Length(left) => State::Body(left),
                            Framing::Chunked => State::Chunks(Chunks::BEGIN),
                        };
                    }
                    Ok(None) if bytes.len() - at > self.limits.bytes => {
                        let refused = Refused::HeadBytes(self.limits.bytes);
                        return Seen { pass: at, rest: Rest::Refuse(refused) };
                    }
                    Ok(None) => return Seen { pass: at, rest: Rest::Wait },
                    Err(refused) => return Seen { pass: at, rest: Rest::Refuse(refused) },
                },
                State::Body(left) => {
                    let rest = bytes.len() - at;
                    let here = rest.min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= here as u64;
                    at += here;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                }
                State::Chunks(chunks) => match chunks.advance(&bytes[at..]) {
                    Ok(here) => {
                        at += here;
                        if *chunks == Chunks::Over {
                            self.state = State::Head;
                        }
                    }
                    Err((right, wrong)) => {
                        return match begun {
                            // Nobody has seen its head yet: nobody has to.
                            Some(begun) => {
                                Seen { pass: begun, rest: Rest::Refuse(Refused::Malformed(wrong)) }
                            }
                            None => Seen { pass: at + right, rest: Rest::Broken(wrong) },
                        };
                    }
                },
            }
        }
        Seen { pass: at, rest: Rest::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 100, fields: 8, target_bytes: 100 };
    const CHUNKED: &str = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";

    fn look(requests: &mut RequestTracker, text: &str) -> (usize, Rest) {
        let seen = requests.look(text.as_bytes());
        (seen.pass, seen.rest)
    }

    #[test]
    fn whole_requests_pass_and_what_begins_the_next_waits() {
        let mut requests = RequestTracker::new(LIMITS);
        let text = format!("{CHUNKED}1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\nGET /b");
        assert_eq!(look(&mut requests, &text), (text.len() - 6, Rest::Wait));
        assert!(requests.between());
        let body = "POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc";
        assert_eq!(look(&mut requests, body), (body.len(), Rest::Wait));
        assert!(!requests.between());
        assert_eq!(look(&mut requests, "defghijGET"), (7, Rest::Wait));
    }

    #[test]
    fn a_request_with_a_wrong_body_is_refused_as_a_whole_if_that_can_be_seen() {
        let mut requests = RequestTracker::new(LIMITS);
        let (pass, rest) = look(&mut requests, &format!("{CHUNKED}x"));
        assert_eq!(pass, 0);
        assert!(matches!(rest, Rest::Refuse(Refused::Malformed(_))), "{rest:?}");
    }

    #[test]
    fn a_body_that_goes_wrong_later_is_broken() {
        let mut requests = RequestTracker::new(LIMITS);
        assert_eq!(look(&mut requests, CHUNKED), (CHUNKED.len(), Rest::Wait));
        let (pass, rest) = look(&mut requests, "1\r\na\r\nx");
        assert_eq!(pass, 6);
        assert!(matches!(rest, Rest::Broken(_)), "{rest:?}");
    }

    #[test]
    fn a_head_without_an_end_is_not_waited_for() {
        let mut requests = RequestTracker::new(LIMITS);
        let text = format!("GET / HTTP/1.1\r\na: {:b<100}", "");
        let refused = Rest::Refuse(Refused::HeadBytes(100));
        assert!(requests.worth_a_look(text.as_bytes(), 0));
        assert_eq!(look(&mut requests, &text), (0, refused));
    }
}
