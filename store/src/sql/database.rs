//! One SQLite file: a connection that writes, and a pool of readers.

use std::{path::Path, time::Duration};

use sqlx::{
    Connection as _, Sqlite, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};
use tokio::time::timeout;

use crate::{Error, Result};

/// How long SQLite waits for a lock that someone else holds, such as a backup.
const BUSY: Duration = Duration::from_secs(5);

/// How long a writer waits in all, its turn among our own writers included. Longer than
/// [`BUSY`], so that SQLite's own answer comes first; and well below 6 seconds, within
/// which the control plane promises to say that it is busy.
const WRITE: Duration = Duration::from_millis(5_200);

/// How often opening is tried, each time for as long as a writer waits. After a crash the
/// write-ahead log is read and flushed first, for which a busy disk may take longer; and a start
/// that fails is worse than one that waits for a backup to end.
const OPENINGS: u32 = 6;

/// The write-ahead log's file is cut to this size once it has been moved into the
/// database. Arbitrary: many times what SQLite lets it grow to when nobody reads.
const WAL_BYTES: &str = "67108864";

/// A transaction that may write. Dropping it rolls back.
pub(crate) type Tx = Transaction<'static, Sqlite>;

/// One SQLite file.
///
/// There is one connection that writes, so that writers queue here, in order, rather
/// than in SQLite's busy handler, which polls; and every transaction on it is immediate,
/// so that none reads first and finds later that it may not write.
#[derive(Debug)]
pub(crate) struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Database {
    /// Opens the file, makes it when absent, and applies pending migrations.
    pub(crate) async fn open(
        path: &Path,
        synchronous: SqliteSynchronous,
        readers: u32,
        migrations: &Migrator,
    ) -> Result<Self> {
        for _ in 1..OPENINGS {
            match Self::try_open(path, synchronous, readers, migrations).await {
                Err(Error::Busy) => {}
                opened => return opened,
            }
        }
        Self::try_open(path, synchronous, readers, migrations).await
    }

    async fn try_open(
        path: &Path,
        synchronous: SqliteSynchronous,
        readers: u32,
        migrations: &Migrator,
    ) -> Result<Self> {
        let options =
            SqliteConnectOptions::new().filename(path).foreign_keys(true).busy_timeout(BUSY);
        let writing = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .pragma("journal_size_limit", WAL_BYTES);
        let writer = lasting(1)
            // After some failures, a full disk among them, SQLite has rolled back by
            // itself. sqlx still believes in the transaction, and refuses to begin
            // another on that connection for ever: replace it.
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .connect_with(writing)
            .await?;
        migrate(&writer, migrations).await?;
        let readers =
            lasting(readers.max(1)).connect_with(options.pragma("query_only", "ON")).await?;
        Ok(Self { writer, readers })
    }

    /// Makes a change of one statement, and says how many rows that changed. When this returns, it
    /// survives a power cut.
    pub(crate) async fn change(
        &self,
        statement: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<u64> {
        let mut tx = self.begin().await?;
        let changed = statement.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(changed)
    }

    /// Begins a transaction that may write, from its first statement on. Dropping it
    /// rolls back.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        match timeout(WRITE, self.writer.begin_with("BEGIN IMMEDIATE")).await {
            Ok(begun) => Ok(begun?),
            Err(_too_late) => Err(Error::Busy),
        }
    }

    /// Connections for what only reads.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Closes all connections. The last one that SQLite sees closing moves the
    /// write-ahead log into the file: the writer, because readers may not write.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// A pool whose connections live as long as it does: they are threads of this process,
/// not peers that may go away.
fn lasting(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(WRITE)
        .idle_timeout(None)
        .max_lifetime(None)
}

async fn migrate(writer: &SqlitePool, migrations: &Migrator) -> Result<()> {
    let supported = migrations.iter().map(|migration| migration.version).max().unwrap_or(0);
    migrations.run(writer).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) if found > supported => {
            Error::NewerSchema { found, supported }
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => Error::Inconsistent { reason: other.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogQuery, LogSource, NewLogLine, NewToken, Store, StoreConfig, Tenant};

    fn line(text: &str) -> NewLogLine {
        NewLogLine {
            function_id: 1,
            time_ms: 0,
            invocation: "i".into(),
            revision: 1,
            stream: LogSource::Stdout,
            line: text.into(),
        }
    }

    /// SQLite answers a full disk and the end of its own allowance alike.
    async fn allow_no_more_pages(database: &Database) {
        sqlx::query("PRAGMA max_page_count = 1").execute(&database.writer).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_database_refuses_writes_serves_reads_and_heals() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        store.append_logs(&[line("before")]).await.unwrap();
        allow_no_more_pages(store.log_db()).await;

        let refused = store.append_logs(&[line("much "), line(&"x".repeat(100_000))]).await;
        let read = store.logs(1, LogQuery { after: None, invocation: None, limit: 9 }).await;
        // The connection that failed was replaced, and its allowance went with it.
        let healed = store.append_logs(&[line("after")]).await;

        assert!(matches!(refused, Err(Error::NoSpace)), "{refused:?}");
        assert_eq!(read.unwrap().len(), 1);
        healed.unwrap();
        let lines = store.logs(1, LogQuery { after: None, invocation: None, limit: 9 }).await;
        let lines: Vec<_> = lines.unwrap().into_iter().map(|line| line.line).collect();
        assert_eq!(lines, ["before", "after"]);
    }

    #[tokio::test]
    async fn a_full_main_database_leaves_no_half_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        allow_no_more_pages(store.main_db()).await;
        let token = |id: &str, name: String| NewToken {
            tenant: Tenant::default(),
            id: id.into(),
            name,
            hash: [0; 32],
            scopes: vec![],
            created_ms: 0,
            expires_ms: None,
        };

        let refused = store.add_token(token("large", "x".repeat(100_000))).await;
        store.add_token(token("small", "x".into())).await.unwrap();

        assert!(matches!(refused, Err(Error::NoSpace)), "{refused:?}");
        let ids: Vec<_> =
            store.tokens(&Tenant::default()).await.unwrap().into_iter().map(|t| t.id).collect();
        assert_eq!(ids, ["small"]);
    }

    #[tokio::test]
    async fn writes_are_durable_in_the_main_database_and_cheap_in_the_logs() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        let settings = async |database: &Database| {
            let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
                .fetch_one(&database.writer)
                .await
                .unwrap();
            let synchronous: i64 =
                sqlx::query_scalar("PRAGMA synchronous").fetch_one(&database.writer).await.unwrap();
            let keys: i64 = sqlx::query_scalar("PRAGMA foreign_keys")
                .fetch_one(&database.writer)
                .await
                .unwrap();
            (mode, synchronous, keys)
        };

        // 2 is FULL, 1 is NORMAL.
        assert_eq!(settings(store.main_db()).await, ("wal".to_owned(), 2, 1));
        assert_eq!(settings(store.log_db()).await, ("wal".to_owned(), 1, 1));
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();

        let refused = sqlx::query("DELETE FROM tokens").execute(store.main_db().readers()).await;

        assert!(refused.is_err());
    }
}
