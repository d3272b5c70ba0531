//! Where requests of HTTP/1 begin and end, read in the one way that leaves no choice.
//!
//! Two programs that disagree about where a request ends can be made to see different requests:
//! that is request smuggling. So whatever could be read in two ways is refused here, from the bytes
//! as they were sent and before any library has tidied them up. Plain functions of bytes, without
//! I/O, so that anything can be thrown at them.

use memchr::memchr;

/// Digits of a chunk's size. As many as any chunk may need, and none that could overflow.
const CHUNK_DIGITS: u8 = 15;
/// Bytes of a chunk's extensions. Hardly anybody sends one.
const CHUNK_EXTENSION_BYTES: usize = 256;
/// Bytes after the last chunk.
const TRAILER_BYTES: usize = 16 << 10;
/// Digits of a length: the most that always fits.
const LENGTH_DIGITS: usize = 18;

/// How much a head may hold.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, the empty line at the end included.
    pub bytes: usize,
    /// Header fields.
    pub fields: usize,
    /// Bytes of the target.
    pub target_bytes: usize,
}

/// Why a request is refused before anybody has looked at what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It can be read in more than one way, or in none.
    Malformed(&'static str),
    /// A version of HTTP that is not spoken here.
    Version,
    /// A method that turns a connection into something else, or shows what others have added.
    Method,
    /// More header fields than this.
    Fields(usize),
    /// A longer head than this.
    HeadBytes(usize),
    /// A longer target than this.
    TargetBytes(usize),
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes of body.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// The head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its bytes, the empty line at the end included.
    pub bytes: usize,
    /// What follows it.
    pub framing: Framing,
}

/// Reads the head at the start of `bytes`. `None`: there is more to come.
///
/// # Errors
/// What is wrong with it, as soon as that is seen.
pub fn head(bytes: &[u8], limits: &HeadLimits) -> Result<Option<Head>, Refused> {
    let mut lines = Lines { bytes, at: 0 };
    // Some clients send an empty line after a body; RFC 9112 asks for patience.
    let request = loop {
        match lines.next()? {
            None => return Ok(None),
            Some([]) if lines.at <= limits.bytes => {}
            Some(line) => break line,
        }
    };
    let old = request_line(request, limits)?;
    let mut fields = Fields::default();
    loop {
        let Some(line) = lines.next()? else { return Ok(None) };
        if lines.at > limits.bytes {
            return Err(Refused::HeadBytes(limits.bytes));
        }
        if line.is_empty() {
            return Ok(Some(Head { bytes: lines.at, framing: fields.framing(old)? }));
        }
        fields.read(line, limits)?;
    }
}

/// Where the head ends that begins `bytes`, however malformed it is, if it has arrived whole.
/// `from` is how far an earlier look has come.
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
    /// The next line without its end.
    fn next(&mut self) -> Result<Option<&'a [u8]>, Refused> {
        let rest = &self.bytes[self.at..];
        let Some(newline) = memchr(b'\n', rest) else { return Ok(None) };
        self.at += newline + 1;
        let Some((b'\r', line)) = rest[..newline].split_last() else {
            return Err(Refused::Malformed("a line of the head does not end with CR LF"));
        };
        if has_control_byte(line) {
            return Err(Refused::Malformed("there is a control byte in the head"));
        }
        Ok(Some(line))
    }
}

/// Tabs are spaces; where they are not allowed is somebody else's question.
fn has_control_byte(line: &[u8]) -> bool {
    // Without leaving early, so that many bytes are looked at in one go.
    line.iter().fold(false, |found, &byte| found | (byte < b' ' && byte != b'\t') | (byte == 0x7f))
}

/// Checks the request line. Whether it is one of HTTP/1.0.
fn request_line(line: &[u8], limits: &HeadLimits) -> Result<bool, Refused> {
    const UNCLEAR: Refused = Refused::Malformed("the request line is not METHOD TARGET VERSION");
    let method = line.iter().position(|&byte| !is_token(byte)).ok_or(UNCLEAR)?;
    let version = line.len().checked_sub(b" HTTP/1.1".len()).ok_or(UNCLEAR)?;
    let target = line.get(method + 1..version).ok_or(UNCLEAR)?;
    if method == 0 || line[method] != b' ' || line[version] != b' ' || target.is_empty() {
        return Err(UNCLEAR);
    }
    let old = match &line[version + 1..] {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refused::Version);
        }
        _ => return Err(UNCLEAR),
    };
    if target.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'#')) {
        return Err(UNCLEAR);
    }
    if target.len() > limits.target_bytes {
        return Err(Refused::TargetBytes(limits.target_bytes));
    }
    if matches!(&line[..method], b"CONNECT" | b"TRACE") {
        return Err(Refused::Method);
    }
    Ok(old)
}

/// What the header fields that frame a request have said so far.
#[derive(Default)]
struct Fields {
    count: usize,
    length: Option<u64>,
    chunked: bool,
    hosts: usize,
}

impl Fields {
    fn read(&mut self, line: &[u8], limits: &HeadLimits) -> Result<(), Refused> {
        self.count += 1;
        if self.count > limits.fields {
            return Err(Refused::Fields(limits.fields));
        }
        let colon = line.iter().position(|&byte| !is_token(byte));
        let (name, value) = match colon.map(|colon| (&line[..colon], &line[colon..])) {
            Some((name, [b':', value @ ..])) if !name.is_empty() => (name, value),
            // A folded line, a space before the colon, no colon, no name.
            _ => return Err(Refused::Malformed("a header field is not NAME: VALUE")),
        };
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if self.hosts > 1 {
                    return Err(Refused::Malformed("there is more than one host"));
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = length(trimmed(value))
                    .ok_or(Refused::Malformed("content-length is not one plain number"))?;
                if self.length.replace(length).is_some() {
                    return Err(Refused::Malformed("there is more than one content-length"));
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !trimmed(value).eq_ignore_ascii_case(b"chunked") {
                    return Err(Refused::Malformed("transfer-encoding is not just chunked"));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, old: bool) -> Result<Framing, Refused> {
        match (self.chunked, self.length) {
            (true, Some(_)) => {
                Err(Refused::Malformed("both content-length and transfer-encoding are there"))
            }
            (true, None) if old => {
                Err(Refused::Malformed("HTTP/1.0 does not know transfer-encoding"))
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

/// Digits and nothing else: no sign, no list, no space between them.
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

/// Where a body in chunks has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// In a chunk's size, of which so many digits were read.
    Size {
        /// What they say.
        size: u64,
        /// How many there were.
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
    /// So far from the end of a chunk.
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
    Over,
}

impl Chunks {
    /// Before the first chunk.
    pub const BEGIN: Self = Self::Size { size: 0, digits: 0 };

    /// Goes on with `bytes`; returns how many belong to the body. All of them, unless it is over.
    ///
    /// # Errors
    /// What is wrong, and how many bytes before it were right.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, (usize, &'static str)> {
        let mut at = 0;
        while at < bytes.len() && *self != Self::Over {
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
                return Err("a chunk's extensions are too long or no text");
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
            (Self::LastEnd, b'\n') => Self::Over,
            (Self::LineBegin(_) | Self::Line(_) | Self::LineEnd(_) | Self::LastEnd, _) => {
                return Err("what follows the last chunk is no header field");
            }
            (Self::Over, _) => Self::Over,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
