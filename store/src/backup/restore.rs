//! Reading the archive of a backup into a data directory.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use super::{
    ABOUT, About, ArchiveContents, ArchivedFile, BackupSize, CONTENTS, FORMAT, archive::Hashed,
};
use crate::{
    Digest,
    directory::{is_data_file, private_directory, sync_directory},
};

/// Bytes of an entry that describes the archive: names and digests of a million files.
const JSON_BYTES: u64 = 256 << 20;

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// How much it was.
    pub size: BackupSize,
    /// The version of the program that made the backup.
    pub version: String,
    /// When the backup was made, in Unix milliseconds.
    pub created_ms: i64,
    /// Artifacts and files of functions whose bytes were lost before the backup was made.
    pub missing: Vec<String>,
}

/// Why an archive was not restored. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something in the directory already.
    #[error("{} is not empty; a backup is restored into a directory of its own", .0.display())]
    NotEmpty(PathBuf),
    /// It is no backup, or was changed.
    #[error("this is no backup that can be restored: {0}")]
    NotABackup(String),
    /// A newer version has made it.
    #[error("mayfly {version} has made this backup, in a format that this version does not know")]
    Newer {
        /// The version that has made it.
        version: String,
    },
    /// It ends too early.
    #[error("the backup is not whole: it ends before its list of contents")]
    CutShort,
    /// A file is not what it was when the backup was made.
    #[error("`{0}` in the backup is damaged")]
    Damaged(String),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Restores an archive into a directory that is empty, or does not exist. The directory appears whole,
/// or not at all; when this returns, it survives a power cut. Blocks on files and on `reader`.
///
/// # Errors
///
/// [`RestoreError`].
pub fn restore(reader: impl Read, directory: &Path) -> Result<Restored, RestoreError> {
    let directory = std::path::absolute(directory)?;
    if fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(RestoreError::NotEmpty(directory));
    }
    let parent = directory.parent().ok_or_else(|| RestoreError::NotEmpty(directory.clone()))?;
    fs::create_dir_all(parent)?;
    // Beside the directory, so that it can take its place; private, as it holds keys.
    let unpacked = tempfile::Builder::new()
        .prefix(".mayfly-restore-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)?;
    let restored = unpack(reader, Some(unpacked.path()))?;
    sync_tree(unpacked.path())?;
    match fs::rename(unpacked.path(), &directory) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            return Err(RestoreError::NotEmpty(directory));
        }
        renamed => renamed?,
    }
    // It has another name now.
    let _ = unpacked.keep();
    sync_directory(parent)?;
    Ok(restored)
}

/// Reads an archive to its end, without restoring it. Blocks on `reader`.
///
/// # Errors
///
/// [`RestoreError`]: what restoring it would refuse.
pub fn check_backup(reader: impl Read) -> Result<Restored, RestoreError> {
    unpack(reader, None)
}

/// Reads an archive, and writes its files if there is a directory for them.
fn unpack(reader: impl Read, directory: Option<&Path>) -> Result<Restored, RestoreError> {
    let mut archive = Archive::new(reader);
    let mut entries = archive.entries()?;
    let about: About = match entries.next() {
        Some(entry) => {
            let mut entry = entry.map_err(failed)?;
            if name(&entry)? != ABOUT {
                return Err(not_a_backup("it does not begin as one"));
            }
            json(&mut entry)?
        }
        None => return Err(not_a_backup("it is empty")),
    };
    if about.format > FORMAT {
        return Err(RestoreError::Newer { version: about.version });
    }
    let mut found = Vec::new();
    for entry in entries {
        let mut entry = entry.map_err(failed)?;
        let name = name(&entry)?;
        if name == CONTENTS {
            let contents: ArchiveContents = json(&mut entry)?;
            check(&found, &contents)?;
            let bytes = found.iter().map(|file| file.bytes).sum();
            let size = BackupSize { files: found.len() as u64, bytes };
            let About { version, created_ms, .. } = about;
            return Ok(Restored { size, version, created_ms, missing: contents.missing });
        }
        found.push(unpack_file(&mut entry, name, directory)?);
    }
    Err(RestoreError::CutShort)
}

/// Writes a file under its name, which is one that the store itself could have given.
fn unpack_file(
    entry: &mut Entry<'_, impl Read>,
    name: String,
    directory: Option<&Path>,
) -> Result<ArchivedFile, RestoreError> {
    if entry.header().entry_type() != EntryType::Regular || !is_data_file(&name) {
        return Err(not_a_backup(&format!(
            "`{}` is no file of a data directory",
            name.escape_debug()
        )));
    }
    let mut file = match directory {
        Some(directory) => {
            let path = directory.join(&name);
            private_directory(path.parent().expect("it is below the directory"))?;
            // Two entries of one name are no backup of ours.
            Some(OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?)
        }
        None => None,
    };
    let bytes = entry.size();
    let mut hashed = Hashed { reader: entry, hasher: Sha256::new(), bytes: 0 };
    let copied = match &mut file {
        Some(file) => io::copy(&mut hashed, file),
        None => io::copy(&mut hashed, &mut io::sink()),
    };
    let copied = copied.map_err(failed)?;
    if copied != bytes {
        return Err(RestoreError::CutShort);
    }
    if let Some(file) = file {
        file.sync_all()?;
    }
    let sha256 = Digest::from_bytes(hashed.hasher.finalize().into()).to_string();
    Ok(ArchivedFile { name, bytes, sha256 })
}

/// Compares what was found with what the archive says that it holds.
fn check(found: &[ArchivedFile], contents: &ArchiveContents) -> Result<(), RestoreError> {
    if let Some((file, _)) = found.iter().zip(&contents.files).find(|(found, said)| found != said) {
        return Err(RestoreError::Damaged(file.name.clone()));
    }
    if found.len() != contents.files.len() {
        return Err(not_a_backup("its list of contents names other files"));
    }
    Ok(())
}

fn name(entry: &Entry<'_, impl Read>) -> Result<String, RestoreError> {
    String::from_utf8(entry.path_bytes().into_owned())
        .map_err(|_| not_a_backup("a name in it is not UTF-8"))
}

fn json<T: DeserializeOwned>(entry: &mut Entry<'_, impl Read>) -> Result<T, RestoreError> {
    let mut text = Vec::new();
    let bytes = entry.size();
    entry.take(JSON_BYTES).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 != bytes {
        return Err(RestoreError::CutShort);
    }
    serde_json::from_slice(&text).map_err(|error| not_a_backup(&error.to_string()))
}

/// What a failure of reading means.
fn failed(error: io::Error) -> RestoreError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => RestoreError::CutShort,
        // What the library says of bytes that are no archive.
        io::ErrorKind::Other => not_a_backup(&error.to_string()),
        _ => RestoreError::Io(error),
    }
}

fn not_a_backup(reason: &str) -> RestoreError {
    RestoreError::NotABackup(reason.to_owned())
}

/// Makes the names in a directory and below it survive a power cut.
fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    sync_directory(directory)
}
