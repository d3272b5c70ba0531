//! Finds where the requests of HTTP/1 begin and end, strictly.
//!
//! If two programs disagree about where a request ends, an attacker can make them see different
//! requests: that is request smuggling. This module rejects every request that could be read in two
//! ways, from the bytes as the client sent them and before any library has normalised them. It has
//! no I/O, so that tests and the fuzzer can pass it any bytes.

use memchr::memchr;

/// Digits of a chunk's size: enough for any chunk, and too few to overflow.
const CHUNK_DIGITS: u8 = 15;
/// Bytes of a chunk's extensions. Hardly any client sends one.
const CHUNK_EXTENSION_BYTES: usize = 256;
/// Bytes after the last chunk.
const TRAILER_BYTES: usize = 16 << 10;
/// Bytes by which a byte grows when it is percent-encoded.
const ESCAPE_BYTES: usize = 2;
/// Digits of a length: the most that always fit into 64 bits.
const LENGTH_DIGITS: usize = 18;

/// Limits on the head of a request.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, the empty line at the end included.
    pub bytes: usize,
    /// Header fields.
    pub fields: usize,
    /// Bytes of the target.
    pub target_bytes: usize,
}

/// Why a request is rejected before it is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestRejection {
    /// It can be read in more than one way, or not at all.
    Malformed(&'static str),
    /// The gateway does not support its version of HTTP.
    Version,
    /// CONNECT would turn the connection into a tunnel, and TRACE would show header fields that
    /// proxies have added.
    Method,
    /// It has more header fields than this limit.
    Fields(usize),
    /// Its head is longer than this limit.
    HeadBytes(usize),
    /// Its target is longer than this limit.
    TargetBytes(usize),
}

/// The body after a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A body of so many bytes.
    Length(u64),
    /// A chunked body.
    Chunked,
}

/// The head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Its bytes, the empty line at the end included.
    pub bytes: usize,
    /// The body after it.
    pub framing: Framing,
    /// How many bytes of its target must be percent-encoded before it is passed on, because the
    /// protocol library refuses them. Other servers do not, and programs do send them.
    pub unencoded: usize,
}

/// Parses the head at the start of `bytes`. `None` if it is incomplete.
///
/// # Errors
/// When the head is invalid or exceeds a limit, even before it is complete.
pub fn head(bytes: &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, RequestRejection> {
    let mut lines = Lines { bytes, at: 0 };
    // Some clients send an empty line after a body; RFC 9112 asks servers to skip it.
    let request = loop {
        match lines.next()? {
            None => return Ok(None),
            Some([]) if lines.at <= limits.bytes => {}
            Some(line) => break line,
        }
    };
    let RequestLine { is_http10, unencoded } = request_line(request, limits)?;
    let mut fields = FramingFields::default();
    loop {
        let Some(line) = lines.next()? else { return Ok(None) };
        if lines.at + ESCAPE_BYTES * unencoded > limits.bytes {
            return Err(RequestRejection::HeadBytes(limits.bytes));
        }
        if line.is_empty() {
            let framing = fields.framing(is_http10)?;
            return Ok(Some(RequestHead { bytes: lines.at, framing, unencoded }));
        }
        fields.read(line, limits)?;
    }
}

/// A head with its target percent-encoded. It must be one that [`head`] accepts.
pub fn with_encoded_target(head: &[u8]) -> Vec<u8> {
    let begin = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    let target = memchr(b' ', &head[begin..]).map_or(begin, |space| begin + space + 1);
    let end = memchr(b' ', &head[target..]).map_or(target, |space| target + space);
    let mut encoded = Vec::with_capacity(head.len() + ESCAPE_BYTES * (end - target));
    encoded.extend_from_slice(&head[..target]);
    for &byte in &head[target..end] {
        if must_be_encoded(byte) {
            let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
            encoded.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        } else {
            encoded.push(byte);
        }
    }
    encoded.extend_from_slice(&head[end..]);
    encoded
}

/// Whether browsers encode a byte wherever it stands in a target, and not all programs do. They
/// leave `|`, `{` and `}`.
fn must_be_encoded(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | 0x80..)
}

/// Whether the head at the start of `bytes` is complete, however malformed it is. `from` is how
/// many of the bytes an earlier call has checked.
pub fn has_end(bytes: &[u8], from: usize) -> bool {
    let mut at = from.saturating_sub(2);
    while let Some(newline) = memchr(b'\n', &bytes[at..]) {
        at += newline + 1;
        if at > 2 && matches!(&bytes[at..], [b'\n', ..] | [b'\r', b'\n', ..]) {
            return true;
        }
    }
    false
}

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    /// The next line, without its line ending.
    fn next(&mut self) -> Result<Option<&'a [u8]>, RequestRejection> {
        let rest = &self.bytes[self.at..];
        let Some(newline) = memchr(b'\n', rest) else { return Ok(None) };
        self.at += newline + 1;
        let Some((b'\r', line)) = rest[..newline].split_last() else {
            return Err(RequestRejection::Malformed("a line of the head does not end with CR LF"));
        };
        if has_control_byte(line) {
            return Err(RequestRejection::Malformed("the head has a control byte"));
        }
        Ok(Some(line))
    }
}

/// A tab is no control byte here: other checks reject it where it is not allowed.
fn has_control_byte(line: &[u8]) -> bool {
    // No early exit, so that the compiler can check many bytes at once.
    line.iter().fold(false, |found, &byte| found | (byte < b' ' && byte != b'\t') | (byte == 0x7f))
}

/// What the request line says about the rest.
struct RequestLine {
    is_http10: bool,
    unencoded: usize,
}

fn request_line(line: &[u8], limits: &HeadLimits) -> Result<RequestLine, RequestRejection> {
    const UNCLEAR: RequestRejection =
        RequestRejection::Malformed("the request line is not METHOD TARGET VERSION");
    let method = line.iter().position(|&byte| !is_token(byte)).ok_or(UNCLEAR)?;
    let version = line.len().checked_sub(b" HTTP/1.1".len()).ok_or(UNCLEAR)?;
    let target = line.get(method + 1..version).ok_or(UNCLEAR)?;
    if method == 0 || line[method] != b' ' || line[version] != b' ' || target.is_empty() {
        return Err(UNCLEAR);
    }
    let is_http10 = match &line[version + 1..] {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(RequestRejection::Version);
        }
        _ => return Err(UNCLEAR),
    };
    if target.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'#')) {
        return Err(UNCLEAR);
    }
    let unencoded = target.iter().filter(|byte| must_be_encoded(**byte)).count();
    if target.len() + ESCAPE_BYTES * unencoded > limits.target_bytes {
        return Err(RequestRejection::TargetBytes(limits.target_bytes));
    }
    if matches!(&line[..method], b"CONNECT" | b"TRACE") {
        return Err(RequestRejection::Method);
    }
    Ok(RequestLine { is_http10, unencoded })
}

/// The framing of the request according to the header fields read so far.
#[derive(Default)]
struct FramingFields {
    count: usize,
    length: Option<u64>,
    chunked: bool,
    hosts: usize,
}

impl FramingFields {
    fn read(&mut self, line: &[u8], limits: &HeadLimits) -> Result<(), RequestRejection> {
        self.count += 1;
        if self.count > limits.fields {
            return Err(RequestRejection::Fields(limits.fields));
        }
        let colon = line.iter().position(|&byte| !is_token(byte));
        let (name, value) = match colon.map(|colon| (&line[..colon], &line[colon..])) {
            Some((name, [b':', value @ ..])) if !name.is_empty() => (name, value),
            // A folded line, a space before the colon, no colon, no name.
            _ => return Err(RequestRejection::Malformed("a header field is not NAME: VALUE")),
        };
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if self.hosts > 1 {
                    return Err(RequestRejection::Malformed("the request has more than one host"));
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = length(trimmed(value))
                    .ok_or(RequestRejection::Malformed("content-length is not one plain number"))?;
                if self.length.replace(length).is_some() {
                    return Err(RequestRejection::Malformed(
                        "the request has more than one content-length",
                    ));
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !trimmed(value).eq_ignore_ascii_case(b"chunked") {
                    return Err(RequestRejection::Malformed(
                        "transfer-encoding is not just chunked",
                    ));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, is_http10: bool) -> Result<Framing, RequestRejection> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(RequestRejection::Malformed(
                "the request has both content-length and transfer-encoding",
            )),
            (true, None) if is_http10 => {
                Err(RequestRejection::Malformed("HTTP/1.0 has no transfer-encoding"))
            }
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Parses digits and nothing else: no sign, no list, no space between them.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > LENGTH_DIGITS {
        return None;
    }
    value.iter().try_fold(0, |length, byte| {
        byte.is_ascii_digit().then(|| length * 10 + u64::from(byte - b'0'))
    })
}

/// Whether a byte may be part of a method or of a field's name (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut token = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            token[byte] = (byte as u8).is_ascii_alphanumeric()
                || matches!(
                    byte as u8,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
            byte += 1;
        }
        token
    };
    TOKEN[usize::from(byte)]
}

/// The position in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkState {
    /// In the size of a chunk.
    Size {
        /// The number so far.
        size: u64,
        /// How many digits it has.
        digits: u8,
    },
    /// In a chunk's extensions.
    Extension {
        /// The chunk's size.
        size: u64,
        /// Bytes of extensions.
        bytes: usize,
    },
    /// Before the LF after a chunk's size.
    SizeEnd(u64),
    /// In a chunk that has so many bytes left.
    Data(u64),
    /// Before the LF after a chunk.
    DataEnd,
    /// At the beginning of a line after the last chunk.
    LineBegin(usize),
    /// In a line after the last chunk.
    Line(usize),
    /// Before the LF of a line after the last chunk.
    LineEnd(usize),
    /// Before the LF at the very end.
    LastEnd,
    /// After the end.
    End,
}

impl ChunkState {
    /// Before the first chunk.
    pub const BEGIN: Self = Self::Size { size: 0, digits: 0 };

    /// Advances over `bytes`, and returns how many of them belong to the body: all, unless it ends.
    ///
    /// # Errors
    /// How many bytes were valid, and what is wrong after them.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, (usize, &'static str)> {
        let mut at = 0;
        while at < bytes.len() && *self != Self::End {
            if let Self::Data(left @ 1..) = self {
                let here = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= here as u64;
                at += here;
                continue;
            }
            *self = self.after(bytes[at]).map_err(|wrong| (at, wrong))?;
            at += 1;
        }
        Ok(at)
    }

    fn after(self, byte: u8) -> Result<Self, &'static str> {
        let digit = (byte as char).to_digit(16);
        let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        Ok(match (self, byte) {
            (Self::Size { size, digits: digits @ 0..CHUNK_DIGITS }, _) if digit.is_some() => {
                let digit = u64::from(digit.unwrap_or_default());
                Self::Size { size: size << 4 | digit, digits: digits + 1 }
            }
            (Self::Size { size, digits: 1.. }, b'\r') => Self::SizeEnd(size),
            (Self::Size { size, digits: 1.. }, b';') => Self::Extension { size, bytes: 0 },
            (Self::Size { .. }, _) => return Err("a chunk's size is not a plain number"),
            (Self::Extension { size, .. }, b'\r') => Self::SizeEnd(size),
            (Self::Extension { size, bytes: bytes @ 0..CHUNK_EXTENSION_BYTES }, _) if is_text => {
                Self::Extension { size, bytes: bytes + 1 }
            }
            (Self::Extension { .. }, _) => {
                return Err("a chunk's extensions are too long or not text");
            }
            (Self::SizeEnd(0), b'\n') => Self::LineBegin(0),
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::SizeEnd(_), _) => return Err("a chunk's size does not end with CR LF"),
            (Self::Data(_), b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::BEGIN,
            (Self::Data(_) | Self::DataEnd, _) => return Err("a chunk does not end with CR LF"),
            (Self::LineBegin(_), b'\r') => Self::LastEnd,
            (Self::Line(bytes), b'\r') => Self::LineEnd(bytes),
            (Self::LineBegin(bytes), _) if is_token(byte) => Self::Line(bytes + 1),
            (Self::Line(bytes @ 0..TRAILER_BYTES), _) if is_text => Self::Line(bytes + 1),
            (Self::LineEnd(bytes), b'\n') => Self::LineBegin(bytes),
            (Self::LastEnd, b'\n') => Self::End,
            (Self::LineBegin(_) | Self::Line(_) | Self::LineEnd(_) | Self::LastEnd, _) => {
                return Err("a line after the last chunk is not a header field");
            }
            (Self::End, _) => Self::End,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
