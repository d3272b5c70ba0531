//! The archive of a directory: the same bytes for the same files, whoever makes it and when.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use runtime_pool::{FileList, ListedEntry};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use zstd::stream::write::Encoder;

use crate::cli::{failure::Failure, printable::printable};

/// The level of the compression: the one of zstd's own tool.
const LEVEL: i32 = 3;

/// An archive, in the coding `zstd`.
#[derive(Debug)]
pub(crate) struct Archived {
    /// It has no name, and is gone when this is dropped.
    pub(crate) file: File,
    /// The digest of its tree.
    pub(crate) digest: String,
}

/// Makes the archive of what is in and below a directory.
pub(crate) fn archive(directory: &Path) -> Result<Archived, Failure> {
    let failed = |error| Failure::failed(format!("writing an archive: {error}"));
    let file = tempfile::tempfile().map_err(failed)?;
    let encoder = Encoder::new(file, LEVEL).map_err(failed)?;
    let mut writer = Writer { tar: Builder::new(encoder), entries: BTreeMap::new() };
    writer.add_directory(directory, "")?;
    let Writer { tar, entries } = writer;
    let file = tar.into_inner().and_then(Encoder::finish).map_err(failed)?;
    let list = FileList::new(entries).to_string();
    let digest: String = Sha256::digest(list).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Archived { file, digest: format!("sha256:{digest}") })
}

struct Writer {
    tar: Builder<Encoder<'static, File>>,
    entries: BTreeMap<String, ListedEntry>,
}

impl Writer {
    /// Adds what is in a directory, whose path in the archive is `prefix`, in the order of names.
    fn add_directory(&mut self, directory: &Path, prefix: &str) -> Result<(), Failure> {
        let failed = |error: io::Error| unreadable(directory, &error.to_string());
        let mut found: Vec<(String, PathBuf)> = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| {
                unreadable(&entry.path(), "its name is not UTF-8, so that functions cannot have it")
            })?;
            found.push((format!("{prefix}{name}"), entry.path()));
        }
        found.sort();
        if found.is_empty() && !prefix.is_empty() {
            let path = prefix.trim_end_matches('/');
            self.entries.insert(path.to_owned(), ListedEntry::Directory);
            return self.append(EntryType::Directory, path, 0, io::empty()).map_err(failed);
        }
        for (path, place) in found {
            // Without following links: a link could lead out of the directory.
            let kind = fs::symlink_metadata(&place)
                .map_err(|error| unreadable(&place, &error.to_string()))?
                .file_type();
            if kind.is_dir() {
                self.add_directory(&place, &format!("{path}/"))?;
            } else if kind.is_file() {
                self.add_file(&place, path)
                    .map_err(|error| unreadable(&place, &error.to_string()))?;
            } else {
                return Err(unreadable(&place, "it is neither a file nor a directory"));
            }
        }
        Ok(())
    }

    fn add_file(&mut self, place: &Path, path: String) -> io::Result<()> {
        let file = File::open(place)?;
        let bytes = file.metadata()?.len();
        let mut hashing = Hashing { reader: file.take(bytes), hasher: Sha256::new(), bytes: 0 };
        self.append(EntryType::Regular, &path, bytes, &mut hashing)?;
        if hashing.bytes != bytes {
            return Err(io::Error::other("the file became shorter while it was read"));
        }
        let digest = hashing.hasher.finalize().into();
        self.entries.insert(path, ListedEntry::File { digest, bytes });
        Ok(())
    }

    fn append(
        &mut self,
        kind: EntryType,
        path: &str,
        bytes: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.tar.append_data(&mut header, path, content)
    }
}

/// Computes the digest of what is read.
struct Hashing<R> {
    reader: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

fn unreadable(path: &Path, reason: &str) -> Failure {
    Failure::failed(format!("reading {}: {reason}", printable(&path.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn bytes(archived: Archived) -> Vec<u8> {
        use io::Seek as _;
        let mut bytes = Vec::new();
        let mut file = archived.file;
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn site(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        dir
    }

    #[test]
    fn equal_directories_make_equal_archives() {
        let long = format!("{}/file", "d".repeat(120));
        let one = site(&["index.html", "assets/a.css", &long]);
        let two = site(&[&long, "assets/a.css", "index.html"]);
        let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(99);
        let file = File::open(two.path().join("index.html")).unwrap();
        file.set_modified(later).unwrap();
        let [one, two] = [one, two].map(|dir| archive(dir.path()).unwrap());
        assert_eq!(one.digest, two.digest);
        assert_eq!(bytes(one), bytes(two));
        let other = archive(site(&["index.htm", "assets/a.css", &long]).path()).unwrap();
        assert!(other.digest.starts_with("sha256:") && !bytes(other).is_empty());
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = site(&["a"]);
        symlink("/etc/passwd", dir.path().join("b")).unwrap();
        let refused = format!("{:?}", archive(dir.path()).unwrap_err());
        assert!(refused.contains("neither a file nor a directory"), "{refused}");
    }
}
