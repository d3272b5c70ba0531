//! A parser that finds the end of an HTTP/1.1 response: the part of the protocol that the load
//! generator needs.

/// A complete response at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its status.
    pub status: u16,
    /// The offset of its body.
    pub head: usize,
    /// The offset of its end.
    pub end: usize,
    /// Whether the body is chunked.
    pub chunked: bool,
}

/// The bytes are not the start of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not an HTTP/1.1 response: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// The response at the start of `buffer`, or `None` while it is incomplete.
///
/// # Errors
/// When the bytes are not the start of a response, or this parser cannot find its end.
pub fn response(buffer: &[u8]) -> Result<Option<Extent>, Malformed> {
    let Some(blank) = find(buffer, b"\r\n\r\n") else { return Ok(None) };
    let mut lines = buffer[..blank].split(|byte| *byte == b'\n');
    let status = status(lines.next().unwrap_or_default())?;
    let head = blank + 4;
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        if let Some(value) = value_of(line, b"content-length") {
            length = Some(decimal(value).ok_or(Malformed("its content-length"))?);
        } else if let Some(value) = value_of(line, b"transfer-encoding") {
            chunked = value.eq_ignore_ascii_case(b"chunked");
        }
    }
    let end = match length {
        _ if chunked => match chunks_end(buffer, head)? {
            Some(end) => end,
            None => return Ok(None),
        },
        Some(length) => head + length,
        None if status == 204 || status == 304 => head,
        None => return Err(Malformed("it has no length")),
    };
    Ok((end <= buffer.len()).then_some(Extent { status, head, end, chunked }))
}

/// The body of a complete response.
#[must_use]
pub fn body(buffer: &[u8], extent: Extent) -> Vec<u8> {
    if !extent.chunked {
        return buffer[extent.head..extent.end].to_vec();
    }
    let mut body = Vec::new();
    let mut at = extent.head;
    while let Ok(Some((start, length))) = chunk(buffer, at) {
        if length == 0 {
            break;
        }
        body.extend_from_slice(&buffer[start..start + length]);
        at = start + length + 2;
    }
    body
}

/// Whether a complete response has this body.
#[must_use]
pub fn body_is(buffer: &[u8], extent: Extent, expected: &[u8]) -> bool {
    if !extent.chunked {
        return &buffer[extent.head..extent.end] == expected;
    }
    let mut rest = expected;
    let mut at = extent.head;
    while let Ok(Some((start, length))) = chunk(buffer, at) {
        if length == 0 {
            return rest.is_empty();
        }
        let Some(after) = rest.strip_prefix(&buffer[start..start + length]) else { return false };
        rest = after;
        at = start + length + 2;
    }
    false
}

fn status(line: &[u8]) -> Result<u16, Malformed> {
    let code = line.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    code.and_then(decimal)
        .and_then(|code| u16::try_from(code).ok())
        .ok_or(Malformed("its status line"))
}

/// Whether a response's head has this header. `name` is in lower case.
#[must_use]
pub fn has_header(head: &[u8], name: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').any(|line| value_of(line, name).is_some())
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn decimal(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The end of a chunked body without trailers, or `None` while it is incomplete.
fn chunks_end(buffer: &[u8], start: usize) -> Result<Option<usize>, Malformed> {
    let mut at = start;
    loop {
        let Some((data, length)) = chunk(buffer, at)? else { return Ok(None) };
        at = data + length + 2;
        if length == 0 {
            return Ok(Some(at));
        }
    }
}

/// Offset and length of the data of the chunk at `at`.
fn chunk(buffer: &[u8], at: usize) -> Result<Option<(usize, usize)>, Malformed> {
    let Some(rest) = buffer.get(at..) else { return Ok(None) };
    let Some(line) = find(rest, b"\r\n") else { return Ok(None) };
    let size = std::str::from_utf8(&rest[..line]).ok();
    let size = size.and_then(|size| usize::from_str_radix(size.split(';').next()?.trim(), 16).ok());
    size.map(|size| Some((at + line + 2, size))).ok_or(Malformed("the size of a chunk"))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_ends_where_its_length_says() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..text.len() {
            assert_eq!(response(&text[..cut]), Ok(None), "{cut}");
        }
        let extent = response(text).unwrap().unwrap();
        assert_eq!((extent.status, extent.head, extent.end), (200, 38, 43));
        assert_eq!(body(text, extent), b"hello");
        assert!(body_is(text, extent, b"hello") && !body_is(text, extent, b"hell"));
    }

    #[test]
    fn a_response_in_chunks_ends_with_an_empty_one() {
        let text =
            b"HTTP/1.1 502 Bad\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(response(&text[..cut]), Ok(None), "{cut}");
        }
        let extent = response(text).unwrap().unwrap();
        assert_eq!((extent.status, extent.end), (502, text.len()));
        assert_eq!(body(text, extent), b"abc0123456789");
        assert!(body_is(text, extent, b"abc0123456789"));
        assert!(
            !body_is(text, extent, b"abc012345678") && !body_is(text, extent, b"abc01234567890")
        );
    }

    #[test]
    fn bytes_that_are_no_response_are_an_error() {
        for text in [
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert!(response(text.as_bytes()).is_err(), "{text}");
        }
    }
}
