//! A backup: everything that a data directory holds, as one archive, while the store is open.
//!
//! ```text
//! mayfly-backup.json   what the archive is: its format, the version that wrote it, the time
//! queue.db …           the files of the data directory, under their names in it
//! contents.json        the bytes and the SHA-256 of each, and which artifacts were missing
//! ```
//!
//! The archive is a tar file. An archive without `contents.json` at its end is not whole. It holds the
//! keys of the node, unless it was made without, and has to be kept like them.

mod archive;
mod restore;
mod snapshot;

pub use self::{
    archive::BackupSize,
    restore::{RestoreError, Restored, check_backup, restore},
    snapshot::{Backup, BackupParts},
};

use serde::{Deserialize, Serialize};

/// The format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// The first entry of an archive.
const ABOUT: &str = "mayfly-backup.json";
/// The last entry of an archive.
const CONTENTS: &str = "contents.json";

/// What an archive is.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    format: u32,
    version: String,
    created_ms: i64,
}

/// What an archive holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ArchiveContents {
    files: Vec<ArchivedFile>,
    /// Artifacts and files of functions whose bytes the store had lost before.
    missing: Vec<String>,
}

/// A file in an archive.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ArchivedFile {
    name: String,
    bytes: u64,
    sha256: String,
}
