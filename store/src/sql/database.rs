//! One SQLite file: a connection that writes, and a pool of readers.

use std::{path::Path, time::Duration};

use sqlx::{
    Connection as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};
use tokio::time::timeout;

use crate::{Error, Result};

/// How long SQLite waits for a lock that another process holds, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a writer waits in total, for our other writers and for SQLite. Longer than
/// [`BUSY_TIMEOUT`], so that SQLite's error comes first; shorter than the 6 seconds within which
/// the control plane promises to answer that the database is busy.
const WRITE_TIMEOUT: Duration = Duration::from_millis(5_200);

/// Attempts to open a database; each waits as long as a writer. After a crash SQLite first reads
/// and flushes the write-ahead log, which takes longer on a busy disk. A start that waits for a
/// backup to end is better than one that fails.
const OPEN_ATTEMPTS: u32 = 6;

/// SQLite truncates the write-ahead log to this size when a checkpoint has emptied it. Arbitrary:
/// many times the size at which SQLite begins a checkpoint.
const WAL_BYTES_MAX: &str = "67108864";

/// A transaction that may write. Dropping it rolls it back.
pub(crate) type WriteTransaction = Transaction<'static, Sqlite>;

/// One SQLite file.
///
/// One connection writes, so that writers queue here in order; SQLite's busy handler would poll.
/// Every transaction on it is immediate: it holds the write lock from its beginning, and cannot
/// fail to get it after it has read.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Database {
    /// Opens the file, creates it when absent, and applies pending migrations.
    pub(crate) async fn open(
        path: &Path,
        synchronous: SqliteSynchronous,
        readers: u32,
        migrations: &Migrator,
    ) -> Result<Self> {
        for _ in 1..OPEN_ATTEMPTS {
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
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writing = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .pragma("journal_size_limit", WAL_BYTES_MAX);
        let writer = permanent_pool(1)
            // After some errors, such as a full disk, SQLite rolls back on its own. sqlx still
            // counts the transaction as open and begins no other one on that connection, so the
            // connection is replaced.
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .connect_with(writing)
            .await?;
        migrate(&writer, migrations).await?;
        let readers =
            permanent_pool(readers.max(1)).connect_with(options.pragma("query_only", "ON")).await?;
        Ok(Self { writer, readers })
    }

    /// Executes one statement in a transaction, and returns how many rows it changed. When this
    /// returns, the change survives a power cut.
    pub(crate) async fn change(
        &self,
        statement: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<u64> {
        let mut tx = self.begin().await?;
        let changed = statement.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(changed)
    }

    /// Begins a transaction that holds the write lock. Dropping it rolls it back.
    pub(crate) async fn begin(&self) -> Result<WriteTransaction> {
        match timeout(WRITE_TIMEOUT, self.writer.begin_with("BEGIN IMMEDIATE")).await {
            Ok(begun) => Ok(begun?),
            Err(_too_late) => Err(Error::Busy),
        }
    }

    /// Connections that can only read.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Copies the database to a file that does not exist yet, as it is at the beginning. Writers do not
    /// wait for it.
    pub(crate) async fn copy_to(&self, path: &Path) -> Result<()> {
        let path = path.to_str().ok_or_else(|| Error::Inconsistent {
            reason: "the path of the data directory is not UTF-8".to_owned(),
        })?;
        // A connection of its own: it takes long, and readers refuse every write, also that of a copy.
        let options = SqliteConnectOptions::clone(&self.readers.connect_options());
        let options = options.pragma("query_only", "OFF").read_only(true);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        sqlx::query("VACUUM INTO $1").bind(path).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// Closes all connections, the writer last: SQLite moves the write-ahead log into the file when
    /// the last connection closes, and readers may not write.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// A pool whose connections live as long as the pool: they are threads of this process, and do not
/// fail like connections to a server.
fn permanent_pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(WRITE_TIMEOUT)
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

    /// SQLite reports a full disk and a full database by the same error.
    async fn forbid_more_pages(database: &Database) {
        sqlx::query("PRAGMA max_page_count = 1").execute(&database.writer).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_database_refuses_writes_serves_reads_and_heals() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        store.append_logs(&[line("before")]).await.unwrap();
        forbid_more_pages(store.log_db()).await;

        let refused = store.append_logs(&[line("much "), line(&"x".repeat(100_000))]).await;
        let read = store.logs(1, LogQuery { after: None, invocation: None, limit: 9 }).await;
        // The connection that failed was replaced, and with it its limit on pages.
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
        forbid_more_pages(store.main_db()).await;
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
