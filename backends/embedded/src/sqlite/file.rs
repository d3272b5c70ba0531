//! The file: where it is, its schema, and connections to it.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

/// The schema, one script after the other. The file's `user_version` says how many it has.
const MIGRATIONS: [&str; 1] =
    [include_str!("../../../../migrations/sqlite-keyvalue/20261130050500_entries.sql")];
/// The name of the file in its directory.
pub const FILE_NAME: &str = "kv.db";
/// How long an operation waits for a lock that another process holds, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLite truncates the write-ahead log to this size when a checkpoint has emptied it. Arbitrary: many
/// times the size at which SQLite begins a checkpoint.
const WAL_BYTES_MAX: u32 = 64 << 20;
/// Statements that a connection keeps prepared: all that there are.
const STATEMENTS: usize = 32;

/// Why the file of the stores was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file, a directory or a thread could not be had.
    #[error("{action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// SQLite has refused it.
    #[error("opening the file of the stores")]
    File {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer version of this program has changed the file. It was not changed now.
    #[error("the file of the stores has schema {found}, and this program knows {known} and older")]
    NewerSchema {
        /// The schema of the file.
        found: u32,
        /// The newest one that is known.
        known: u32,
    },
}

impl OpenError {
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(source: rusqlite::Error) -> Self {
        Self::File { source: source.into() }
    }
}

/// Creates the directory if it is missing. Returns the path of the file.
pub(super) fn create(dir: &Path) -> Result<PathBuf, OpenError> {
    if !fs::exists(dir).map_err(OpenError::io("looking for the directory of the stores"))? {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(OpenError::io("creating the directory of the stores"))?;
        // So that the directory itself survives a power cut. SQLite does this for its files.
        let parent = dir.parent().unwrap_or(dir);
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(OpenError::io("flushing the directory above that of the stores"))?;
    }
    Ok(dir.join(FILE_NAME))
}

/// The connection that writes. Brings the schema up to date.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let create = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut file = Connection::open_with_flags(path, create | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    file.busy_timeout(BUSY_TIMEOUT)?;
    file.set_prepared_statement_cache_capacity(STATEMENTS);
    file.pragma_update(None, "journal_mode", "wal")?;
    // A commit is on the disk when it returns.
    file.pragma_update(None, "synchronous", "full")?;
    file.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)?;
    migrate(&mut file)?;
    Ok(file)
}

/// A connection that only reads, and waits for locks if `wait` says so.
pub(super) fn open_reader(path: &Path, wait: bool) -> rusqlite::Result<Connection> {
    // Not read-only: such a connection could not use a write-ahead log that it finds without its index.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = Connection::open_with_flags(path, flags)?;
    file.busy_timeout(if wait { BUSY_TIMEOUT } else { Duration::ZERO })?;
    file.set_prepared_statement_cache_capacity(STATEMENTS);
    file.pragma_update(None, "query_only", true)?;
    Ok(file)
}

/// Copies the file to one that does not exist yet.
pub(super) fn copy(path: &Path, copy: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = Connection::open_with_flags(path, flags)?;
    file.busy_timeout(BUSY_TIMEOUT)?;
    file.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    Ok(())
}

fn migrate(file: &mut Connection) -> Result<(), OpenError> {
    let known = MIGRATIONS.len() as u32;
    let found: u32 = file.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(OpenError::NewerSchema { found, known });
    }
    let changes = file.transaction()?;
    for script in MIGRATIONS.iter().skip(found as usize) {
        changes.execute_batch(script)?;
    }
    changes.pragma_update(None, "user_version", known)?;
    Ok(changes.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_is_known() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite-keyvalue");

        assert_eq!(fs::read_dir(dir).unwrap().count(), MIGRATIONS.len());
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = create(&dir.path().join("state")).unwrap();
        let file = open_writer(&path).unwrap();
        file.pragma_update(None, "user_version", 99).unwrap();
        drop(file);

        let refused = open_writer(&path);

        assert!(matches!(refused, Err(OpenError::NewerSchema { found: 99, known: 1 })));
        let file = Connection::open(&path).unwrap();
        let found: u32 = file.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(found, 99);
    }

    #[test]
    fn a_copy_has_what_was_committed_and_the_schema() {
        let dir = tempfile::tempdir().unwrap();
        let path = create(&dir.path().join("state")).unwrap();
        let mut file = open_writer(&path).unwrap();
        let put = "INSERT INTO entries (store, key, value, version) VALUES (1, CAST(?1 AS BLOB), x'00', 1)";
        file.execute(put, ["before"]).unwrap();
        let open = file.transaction().unwrap();
        open.execute(put, ["not committed"]).unwrap();

        let copied = dir.path().join("copy.db");
        copy(&path, &copied).unwrap();

        drop(open);
        let copied = open_writer(&copied).unwrap();
        let mut keys = copied.prepare("SELECT CAST(key AS TEXT) FROM entries").unwrap();
        let keys: Vec<String> =
            keys.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(keys, ["before"]);
        assert!(copy(&path, &dir.path().join("copy.db")).is_err(), "it is there already");
    }

    #[test]
    fn writes_are_durable_and_readers_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = create(&dir.path().join("state")).unwrap();
        let file = open_writer(&path).unwrap();
        let mode: String = file.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        let synchronous: u32 =
            file.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();

        let refused = open_reader(&path, true).unwrap().execute("DELETE FROM entries", []);

        // 2 is FULL.
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
        assert!(refused.is_err());
    }
}
