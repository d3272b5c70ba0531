//! Writing the archive of a backup.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{ABOUT, About, ArchiveContents, ArchivedFile, CONTENTS, FORMAT, snapshot::Backup};
use crate::Digest;

/// How much a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupSize {
    /// Its files.
    pub files: u64,
    /// The bytes of its files.
    pub bytes: u64,
}

impl Backup {
    /// Writes the archive. `version` is that of the program, and is shown when the archive cannot be
    /// restored. Blocks on files and on `writer`.
    ///
    /// # Errors
    ///
    /// Those of the files and of `writer`.
    pub fn write_to(
        &self,
        writer: impl Write,
        version: &str,
        created_ms: i64,
    ) -> io::Result<BackupSize> {
        let mut tar = Builder::new(writer);
        let about = About { format: FORMAT, version: version.to_owned(), created_ms };
        append_json(&mut tar, ABOUT, &about)?;
        let mut contents =
            ArchiveContents { missing: self.missing.clone(), ..ArchiveContents::default() };
        let mut size = BackupSize::default();
        for name in &self.names {
            let file = File::open(self.path(name))?;
            let bytes = file.metadata()?.len();
            let mut hashed = Hashed { reader: file.take(bytes), hasher: Sha256::new(), bytes: 0 };
            tar.append_data(&mut header(bytes), name, &mut hashed)?;
            if hashed.bytes != bytes {
                return Err(io::Error::other("a file became shorter while it was read"));
            }
            let sha256 = Digest::from_bytes(hashed.hasher.finalize().into()).to_string();
            contents.files.push(ArchivedFile { name: name.clone(), bytes, sha256 });
            size = BackupSize { files: size.files + 1, bytes: size.bytes + bytes };
        }
        append_json(&mut tar, CONTENTS, &contents)?;
        tar.into_inner()?.flush()?;
        Ok(size)
    }
}

fn append_json(
    tar: &mut Builder<impl Write>,
    name: &str,
    value: &impl serde::Serialize,
) -> io::Result<()> {
    let text = serde_json::to_vec(value)?;
    tar.append_data(&mut header(text.len() as u64), name, text.as_slice())
}

fn header(bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes);
    // For its owner alone, as in the data directory: it holds keys.
    header.set_mode(0o600);
    header.set_mtime(0);
    header
}

/// Computes the digest of what is read.
pub(super) struct Hashed<R> {
    pub(super) reader: R,
    pub(super) hasher: Sha256,
    pub(super) bytes: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
