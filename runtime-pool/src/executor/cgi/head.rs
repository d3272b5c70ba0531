//! The head of a CGI response: header lines up to an empty line (RFC 3875, section 6).
//!
//! A guest wrote these bytes, so none of them is trusted.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// The longest head that is accepted, in bytes. Arbitrary, large enough.
pub(crate) const HEAD_BYTES: usize = 64 << 10;

/// Fields about the connection, which belongs to the gateway.
const CONNECTION_FIELDS: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// A parsed head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CgiHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// The search for the empty line that ends a head. It looks at each byte once, however small the
/// pieces are in which the head arrives.
#[derive(Debug, Default)]
pub(crate) struct HeadEnd {
    /// Where the last line begins.
    line: usize,
    /// Bytes that were looked at.
    seen: usize,
}

impl HeadEnd {
    /// The length of the head, and of the empty line after it, in all `bytes` so far. `None` if
    /// there is no empty line yet.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Option<(usize, usize)> {
        while let Some(more) = bytes[self.seen..].iter().position(|byte| *byte == b'\n') {
            let (start, end) = (self.line, self.seen + more);
            let line = &bytes[start..end];
            if line.is_empty() || line == b"\r" {
                return Some((start, end + 1 - start));
            }
            (self.line, self.seen) = (end + 1, end + 1);
        }
        self.seen = bytes.len();
        None
    }
}

/// Parses the lines before the empty one.
pub(crate) fn parse(head: &[u8]) -> Result<CgiHead, String> {
    let mut status = None;
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or_else(|| format!("a header line has no colon: {}", quoted(line)))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"status") {
            status = Some(parse_status(value)?);
            continue;
        }
        let name = HeaderName::from_bytes(name)
            .map_err(|_| format!("not a header name: {}", quoted(name)))?;
        if CONNECTION_FIELDS.contains(&name.as_str()) {
            return Err(format!("the header {name} belongs to the gateway"));
        }
        let value = HeaderValue::from_bytes(value)
            .map_err(|_| format!("not a value for the header {name}: {}", quoted(value)))?;
        headers
            .try_append(name, value)
            .map_err(|_| "it has more header fields than can be kept".to_owned())?;
    }
    let redirect = headers.contains_key(header::LOCATION);
    if status.is_none() && !redirect && !headers.contains_key(header::CONTENT_TYPE) {
        return Err("it has none of the headers Content-Type, Location and Status".into());
    }
    let default = if redirect { StatusCode::FOUND } else { StatusCode::OK };
    Ok(CgiHead { status: status.unwrap_or(default), headers })
}

/// Parses `404 Not Found`, or the number alone. Interim statuses are refused: they are no response.
fn parse_status(value: &[u8]) -> Result<StatusCode, String> {
    let number = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    StatusCode::from_bytes(number)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or_else(|| format!("not a status: {}", quoted(value)))
}

fn quoted(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end_of_head(bytes: &[u8]) -> Option<(usize, usize)> {
        HeadEnd::default().find(bytes)
    }

    #[test]
    fn a_content_type_alone_is_an_answer() {
        let head = parse(b"Content-Type: text/plain\r\nX-A:  b \r\n").unwrap();
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.headers["content-type"], "text/plain");
        assert_eq!(head.headers["x-a"], "b");
    }

    #[test]
    fn a_status_line_sets_the_status_and_is_no_header() {
        let head = parse(b"Status: 404 Not Found\n").unwrap();
        assert_eq!(head.status, StatusCode::NOT_FOUND);
        assert!(head.headers.is_empty());
    }

    #[test]
    fn a_location_redirects_unless_a_status_says_otherwise() {
        assert_eq!(parse(b"Location: /x\n").unwrap().status, StatusCode::FOUND);
        assert_eq!(parse(b"Status: 201\nLocation: /x\n").unwrap().status, StatusCode::CREATED);
    }

    #[test]
    fn an_invalid_head_is_refused_with_the_reason() {
        for (head, reason) in [
            (b"hello".as_slice(), "no colon"),
            (b"X-A: b\n", "none of the headers"),
            (b"Status: abc\n", "not a status"),
            (b"Status: 100\n", "not a status"),
            (b"Content-Type: a\nTransfer-Encoding: chunked\n", "belongs to the gateway"),
            (b"Content Type: a\n", "not a header name"),
            (b"Content-Type: a\0b\n", "not a value"),
        ] {
            let error = parse(head).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn the_head_ends_at_the_first_empty_line_of_either_kind() {
        assert_eq!(end_of_head(b"A: b\n\nbody\n\n"), Some((5, 1)));
        assert_eq!(end_of_head(b"A: b\r\n\r\nbody"), Some((6, 2)));
        assert_eq!(end_of_head(b"\nbody"), Some((0, 1)));
        assert_eq!(end_of_head(b"A: b\n"), None);
    }

    #[test]
    fn a_head_in_pieces_ends_where_it_ends_as_a_whole() {
        for head in [b"A: b\n\nbody\n\n".as_slice(), b"A: b\r\n\r\nbody", b"\nbody", b"\r\n"] {
            let mut end = HeadEnd::default();
            let found = (0..=head.len()).find_map(|length| end.find(&head[..length]));
            assert_eq!(found, end_of_head(head));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some((head, empty)) = end_of_head(&bytes) {
                prop_assert!(head + empty <= bytes.len());
                drop(parse(&bytes[..head]));
            }
            drop(parse(&bytes));
        }

        #[test]
        fn nothing_parsed_can_break_a_line(bytes in "[a-zA-Z:\r\n \t\0-]{0,100}") {
            if let Ok(head) = parse(bytes.as_bytes()) {
                for value in head.headers.values() {
                    prop_assert!(!value.as_bytes().contains(&b'\n'));
                    prop_assert!(!value.as_bytes().contains(&b'\r'));
                }
            }
        }
    }
}
