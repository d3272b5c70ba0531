//! Reading tar archives that strangers send.
//!
//! Readers of tar differ in what they make of an unusual archive, and tricks live on that. So this one
//! reads the plain part that all tools write, and refuses everything else: it never guesses. A member
//! is a file or a directory. Names may be longer than the header has room for, by GNU's or by POSIX's
//! extension; whatever else an extension could change, such as a size, is refused.

use std::io::{self, Read};

/// The unit of tar.
const BLOCK: usize = 512;
/// The most bytes of an extension: names are much shorter, and other attributes are skipped.
const EXTENSION_BYTES: u64 = 64 << 10;
/// Bytes that are skipped or compared at a time.
const SKIP_BYTES: usize = 16 << 10;

/// Attributes in POSIX's extension that mean nothing here.
const SKIPPED: [&[u8]; 8] =
    [b"atime", b"ctime", b"mtime", b"uid", b"gid", b"uname", b"gname", b"comment"];
/// The same by the beginning of their name.
const SKIPPED_PREFIXES: [&[u8]; 7] = [
    b"LIBARCHIVE.creationtime",
    b"LIBARCHIVE.xattr.",
    b"SCHILY.xattr.",
    b"SCHILY.acl.",
    b"SCHILY.dev",
    b"SCHILY.ino",
    b"SCHILY.nlink",
];

/// A member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveMember {
    /// A directory of this name.
    Directory(Vec<u8>),
    /// A file of this name. Its content is what [`Archive::read`] returns next.
    File(Vec<u8>),
}

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// The archive, or the coding that it is in, could not be read.
    #[error("reading the archive")]
    Read(#[source] io::Error),
    /// The archive ends before its end marker.
    #[error("the archive is cut off")]
    CutOff,
    /// A header that is none.
    #[error("member {0} has no valid header: this is no tar archive, or it is damaged")]
    Header(u64),
    /// Something that is neither a file nor a directory.
    #[error("member {number} is {kind}")]
    Kind {
        /// Which member.
        number: u64,
        /// The kind, with its article.
        kind: &'static str,
    },
    /// An extension that could change what a member is.
    #[error("the extension of member {number} {reason}")]
    Extension {
        /// Which member.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes after the end marker.
    #[error("bytes follow the end of the archive")]
    AfterEnd,
}

/// An archive that is being read.
pub(crate) struct Archive<R> {
    reader: R,
    /// The number of members whose header was read.
    members: u64,
    /// Bytes of the current member's content that were not read, and those that fill its last block.
    content: u64,
    padding: u64,
}

/// What extensions say of the member that follows.
#[derive(Default)]
struct Extensions {
    gnu_name: Option<Vec<u8>>,
    pax: bool,
    pax_name: Option<Vec<u8>>,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, members: 0, content: 0, padding: 0 }
    }

    /// The next member. `None` after the end marker, once the whole input was read.
    pub(crate) fn next(&mut self) -> Result<Option<ArchiveMember>, ArchiveError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip(self.content + self.padding)?;
            (self.content, self.padding) = (0, 0);
            let header = self.block()?;
            if header == [0; BLOCK] {
                if !extensions.is_empty() {
                    return Err(self.extension("describes no member"));
                }
                self.end()?;
                return Ok(None);
            }
            self.members += 1;
            let header = Header::new(&header).ok_or(ArchiveError::Header(self.members))?;
            self.content = header.size;
            self.padding = header.size.next_multiple_of(BLOCK as u64) - header.size;
            match header.kind {
                b'0' | 0 => return Ok(Some(ArchiveMember::File(extensions.name(header.name)))),
                b'5' if header.size == 0 => {
                    return Ok(Some(ArchiveMember::Directory(extensions.name(header.name))));
                }
                b'x' => self.pax(&mut extensions)?,
                b'g' => self.global()?,
                b'L' => self.gnu_name(&mut extensions)?,
                kind => {
                    return Err(ArchiveError::Kind { number: self.members, kind: named(kind) });
                }
            }
        }
    }

    /// Reads content of the current member. Zero bytes are its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let most = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = loop {
            match self.reader.read(&mut buffer[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(ArchiveError::Read)?,
            }
        };
        if read == 0 {
            return Err(ArchiveError::CutOff);
        }
        self.content -= read as u64;
        Ok(read)
    }

    fn block(&mut self) -> Result<[u8; BLOCK], ArchiveError> {
        let mut block = [0; BLOCK];
        self.reader.read_exact(&mut block).map_err(cut_off)?;
        Ok(block)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        let skipped = io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink());
        match skipped.map_err(ArchiveError::Read)? {
            skipped if skipped == bytes => Ok(()),
            _ => Err(ArchiveError::CutOff),
        }
    }

    /// Reads the second block of the end marker, and the zeros by which tools fill their last record.
    fn end(&mut self) -> Result<(), ArchiveError> {
        if self.block()? != [0; BLOCK] {
            return Err(ArchiveError::AfterEnd);
        }
        let mut rest = [0; SKIP_BYTES];
        loop {
            let read = match self.reader.read(&mut rest) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(ArchiveError::Read)?,
            };
            if rest[..read].iter().any(|byte| *byte != 0) {
                return Err(ArchiveError::AfterEnd);
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    fn extension(&self, reason: impl Into<String>) -> ArchiveError {
        ArchiveError::Extension { number: self.members, reason: reason.into() }
    }

    /// The content of an extension.
    fn extended(&mut self) -> Result<Vec<u8>, ArchiveError> {
        if self.content > EXTENSION_BYTES {
            let reason =
                format!("has {} bytes, at most {EXTENSION_BYTES} are allowed", self.content);
            return Err(self.extension(reason));
        }
        // At most EXTENSION_BYTES, so that it fits.
        let mut content = vec![0; self.content as usize];
        self.reader.read_exact(&mut content).map_err(cut_off)?;
        self.content = 0;
        Ok(content)
    }

    /// GNU's extension: the next member's name, and a zero byte.
    fn gnu_name(&mut self, extensions: &mut Extensions) -> Result<(), ArchiveError> {
        let mut name = self.extended()?;
        while name.last() == Some(&0) {
            name.pop();
        }
        if extensions.gnu_name.is_some() || extensions.pax_name.is_some() {
            return Err(self.extension("gives it a second name"));
        }
        extensions.gnu_name = Some(name);
        Ok(())
    }

    /// POSIX's extension of the next member.
    fn pax(&mut self, extensions: &mut Extensions) -> Result<(), ArchiveError> {
        let content = self.extended()?;
        if extensions.pax {
            return Err(self.extension("is the second of its kind"));
        }
        extensions.pax = true;
        let records = records(&content).ok_or_else(|| self.extension("cannot be read"))?;
        for (key, value) in records {
            if key == b"path" {
                if extensions.gnu_name.is_some() || extensions.pax_name.is_some() {
                    return Err(self.extension("gives it a second name"));
                }
                extensions.pax_name = Some(value.to_vec());
            } else {
                self.check_skipped(key)?;
            }
        }
        Ok(())
    }

    /// POSIX's extension of all members that follow, such as the commit in the archives of git.
    fn global(&mut self) -> Result<(), ArchiveError> {
        let content = self.extended()?;
        let records = records(&content).ok_or_else(|| self.extension("cannot be read"))?;
        records.into_iter().try_for_each(|(key, _)| self.check_skipped(key))
    }

    fn check_skipped(&self, key: &[u8]) -> Result<(), ArchiveError> {
        let skipped =
            SKIPPED.contains(&key) || SKIPPED_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
        if skipped {
            return Ok(());
        }
        let key = String::from_utf8_lossy(&key[..key.len().min(64)]).into_owned();
        Err(self.extension(format!("sets {key:?}, which is not supported")))
    }
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.gnu_name.is_none() && !self.pax
    }

    /// The name of a member with this one in its header.
    fn name(self, short: Vec<u8>) -> Vec<u8> {
        self.gnu_name.or(self.pax_name).unwrap_or(short)
    }
}

/// The fields of a header that count.
struct Header {
    name: Vec<u8>,
    size: u64,
    kind: u8,
}

impl Header {
    fn new(block: &[u8; BLOCK]) -> Option<Self> {
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let own: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
        // The sum counts its own eight bytes as blanks.
        if octal(&block[148..156])? != sum - own + 8 * u64::from(b' ') {
            return None;
        }
        let mut name = text(&block[..100]).to_vec();
        // Only POSIX's headers have the beginning of a long name here.
        let prefix = if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { &[] };
        if !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        Some(Self { name, size: octal(&block[124..136])?, kind: block[156] })
    }
}

/// A field that a zero byte may end.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// An octal number, between blanks and zero bytes. Numbers in base 256 are for sizes beyond 8 GiB.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if digits.is_empty() || rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        number.checked_mul(8)?.checked_add(digit.into())
    })
}

/// The records of a POSIX extension: `LENGTH KEY=VALUE\n`, where the length is that of the record.
fn records(mut content: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !content.is_empty() {
        let blank = content.iter().take(20).position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&content[..blank]).ok()?.parse().ok()?;
        let record = content.get(..length)?;
        let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.push((&record[..equals], &record[equals + 1..]));
        content = &content[length..];
    }
    Some(records)
}

fn cut_off(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::CutOff,
        _ => ArchiveError::Read(error),
    }
}

fn named(kind: u8) -> &'static str {
    match kind {
        b'1' => "a hard link",
        b'2' => "a symbolic link",
        b'3' | b'4' => "a device",
        b'5' => "a directory with content",
        b'6' => "a pipe",
        b'K' => "a link with a long target",
        b'S' => "a sparse file",
        _ => "neither a file nor a directory",
    }
}
