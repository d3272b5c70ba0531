//! From an archive to a tree: each file becomes a blob of the store, and all of them a list.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use runtime_pool::{FileList, ListedEntry};
use store::{Digest, TreeUpload};

use crate::functions::files::{
    archive::{Archive, ArchiveError, ArchiveMember},
    names::{NameError, TreeLimits, TreeNames},
};

/// Bytes that are hashed and written at a time.
const BLOCK_BYTES: usize = 64 << 10;

/// Why an archive did not become a tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error(transparent)]
    Archive(ArchiveError),
    #[error(transparent)]
    Name(#[from] NameError),
    /// A file, or all of them, have too many bytes.
    #[error("{0}")]
    TooLarge(String),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<ArchiveError> for UnpackError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Read(cause) if cause.kind() == io::ErrorKind::FileTooLarge => {
                Self::TooLarge(
                    "the archive is larger than files of the permitted size can make it (the \
                     operator's settings uploads.files_bytes and uploads.files)"
                        .to_owned(),
                )
            }
            other => Self::Archive(other),
        }
    }
}

/// A tree whose blobs are written.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) upload: TreeUpload,
    /// The digest of the list.
    pub(crate) digest: Digest,
    pub(crate) list: FileList,
}

/// The bytes of the longest archive of files within the limits, with room for what tools add.
pub(crate) fn archive_bytes(limits: &TreeLimits) -> u64 {
    // A header and the rest of a block, an extension with a name and some attributes.
    let each = 4 * 512 + 2 * limits.path_bytes as u64 + (4 << 10);
    (limits.entries as u64)
        .saturating_mul(each)
        .saturating_add(limits.bytes)
        .saturating_add(1 << 20)
}

/// Reads an archive to its end. Blocks.
pub(crate) fn unpack(
    reader: impl Read,
    mut upload: TreeUpload,
    limits: TreeLimits,
) -> Result<Unpacked, UnpackError> {
    let mut archive = Archive::new(reader);
    let mut names = TreeNames::new(limits);
    let mut entries = BTreeMap::new();
    let mut all_bytes = 0;
    let mut block = vec![0; BLOCK_BYTES];
    while let Some(member) = archive.next()? {
        let path = match member {
            ArchiveMember::Directory(name) => {
                names.directory(&name)?;
                continue;
            }
            ArchiveMember::File(name) => names.file(&name)?,
        };
        let (mut blob, mut bytes) = (upload.begin_blob()?, 0);
        loop {
            let read = archive.read(&mut block)?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
            if bytes > limits.file_bytes {
                return Err(too_large(&path, limits.file_bytes, "file_bytes"));
            }
            if all_bytes + bytes > limits.bytes {
                return Err(too_large("all files", limits.bytes, "files_bytes"));
            }
            blob.write(&block[..read])?;
        }
        all_bytes += bytes;
        let digest = *blob.finish().as_bytes();
        entries.insert(path, ListedEntry::File { digest, bytes });
    }
    for directory in names.empty_directories() {
        entries.insert(directory.to_owned(), ListedEntry::Directory);
    }
    let list = FileList::new(entries);
    let mut blob = upload.begin_blob()?;
    blob.write(list.to_string().as_bytes())?;
    let digest = blob.finish();
    Ok(Unpacked { upload, digest, list })
}

fn too_large(what: &str, max: u64, setting: &str) -> UnpackError {
    let what: String = what.chars().take(128).collect();
    UnpackError::TooLarge(format!(
        "{what}: more than {max} bytes (the operator's setting uploads.{setting})"
    ))
}
