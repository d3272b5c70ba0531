//! Log lines of functions.
//!
//! Nothing waits until a log line is on disk: the lines have a database file of their own, and a
//! power cut may lose the latest ones. A line belongs to the id of a function. Ids are unique
//! across tenants and are never used again, so that functions of the same name never share lines.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use crate::{Error, Result, Store};

/// Lines in one statement. A line has six parameters, and SQLite allows 32,766 in a statement.
const INSERT_LINES: usize = 1_000;

/// Lines that one transaction of a trim removes. Writers wait a few milliseconds for it.
const TRIM_LINES: u32 = 10_000;

/// The source of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    /// The guest's standard output.
    Stdout,
    /// The guest's standard error.
    Stderr,
    /// The platform, with a message about the invocation.
    System,
}

/// A line to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLogLine {
    /// The function that wrote it.
    pub function_id: i64,
    /// When it was written, in Unix milliseconds.
    pub time_ms: i64,
    /// The id of the invocation that wrote it.
    pub invocation: String,
    /// The number of the revision that ran.
    pub revision: u32,
    /// Its source.
    pub stream: LogSource,
    /// The text, without the line break.
    pub line: String,
}

/// A stored line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLogLine {
    /// Grows with every line and is never used again, so that it serves as a cursor.
    pub id: i64,
    /// The function that wrote it.
    pub function_id: i64,
    /// When it was written, in Unix milliseconds.
    pub time_ms: i64,
    /// The id of the invocation that wrote it.
    pub invocation: String,
    /// The number of the revision that ran.
    pub revision: u32,
    /// Its source.
    pub stream: LogSource,
    /// The text, without the line break.
    pub line: String,
}

/// Selects lines of a function.
#[derive(Clone, Copy, Debug)]
pub struct LogQuery<'a> {
    /// Only lines after the one with this id, oldest first. `None` selects the newest lines.
    pub after: Option<i64>,
    /// Only lines of this invocation.
    pub invocation: Option<&'a str>,
    /// The maximum number of lines.
    pub limit: u32,
}

impl Store {
    /// Stores all lines in the given order, or none of them.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn append_logs(&self, lines: &[NewLogLine]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut tx = self.log_db().begin().await?;
        for lines in lines.chunks(INSERT_LINES) {
            let mut insert = QueryBuilder::<Sqlite>::new(
                "INSERT INTO log_lines (function_id, time_ms, invocation, revision, stream, line) ",
            );
            insert.push_values(lines, |mut row, line| {
                row.push_bind(line.function_id)
                    .push_bind(line.time_ms)
                    .push_bind(&line.invocation)
                    .push_bind(line.revision)
                    .push_bind(stream_number(line.stream))
                    .push_bind(&line.line);
            });
            // The text of the statement depends on the number of lines, so that caching it is
            // rarely of use.
            insert.build().persistent(false).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Lines of a function, oldest first: with a cursor the first `limit` lines after it, without
    /// one the newest `limit` lines.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn logs(&self, function_id: i64, query: LogQuery<'_>) -> Result<Vec<StoredLogLine>> {
        let mut select =
            QueryBuilder::<Sqlite>::new("SELECT * FROM log_lines WHERE function_id = ");
        select.push_bind(function_id);
        if let Some(invocation) = query.invocation {
            select.push(" AND invocation = ").push_bind(invocation);
        }
        match query.after {
            Some(after) => select.push(" AND id > ").push_bind(after).push(" ORDER BY id"),
            None => select.push(" ORDER BY id DESC"),
        };
        select.push(" LIMIT ").push_bind(query.limit);
        let rows = select.build().fetch_all(self.log_db().readers()).await?;
        let mut lines = rows.iter().map(read_line).collect::<Result<Vec<_>>>()?;
        if query.after.is_none() {
            lines.reverse();
        }
        Ok(lines)
    }

    /// Removes all but the newest `keep_per_function` lines of each function, and all lines of
    /// deleted functions. Returns the number of removed lines.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`]. Lines
    /// that were removed before the error stay removed.
    pub async fn trim_logs(&self, keep_per_function: u32) -> Result<u64> {
        // Read the logs first. A function with lines existed at that time; if the next query does
        // not find it, it was deleted, because ids are never used again. In the other order, a
        // function that is created between the queries would lose its first lines.
        let with_lines = self.functions_with_lines().await?;
        let known: HashSet<i64> = sqlx::query_scalar("SELECT id FROM functions")
            .fetch_all(self.main_db().readers())
            .await?
            .into_iter()
            .collect();
        let mut removed = 0;
        for function_id in with_lines {
            let keep = if known.contains(&function_id) { keep_per_function } else { 0 };
            removed += self.trim_function(function_id, keep).await?;
        }
        Ok(removed)
    }

    /// The bytes that log lines take in their database, indexes included. Pages that removed lines
    /// have left are used again and do not count.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`].
    pub async fn log_bytes(&self) -> Result<u64> {
        let bytes: i64 = sqlx::query_scalar(
            "SELECT (pages.page_count - free.freelist_count) * size.page_size
             FROM pragma_page_count() pages, pragma_freelist_count() free, pragma_page_size() size",
        )
        .fetch_one(self.log_db().readers())
        .await?;
        Ok(bytes.cast_unsigned())
    }

    /// Seeks from the first index entry of one function to that of the next. `DISTINCT` would read
    /// the entry of every line.
    async fn functions_with_lines(&self) -> Result<Vec<i64>> {
        let ids = sqlx::query_scalar(
            "WITH RECURSIVE logging (id) AS (
                 SELECT MIN(function_id) FROM log_lines
                 UNION ALL
                 SELECT (SELECT MIN(function_id) FROM log_lines WHERE function_id > logging.id)
                 FROM logging WHERE logging.id IS NOT NULL)
             SELECT id FROM logging WHERE id IS NOT NULL",
        )
        .fetch_all(self.log_db().readers())
        .await?;
        Ok(ids)
    }

    async fn trim_function(&self, function_id: i64, keep: u32) -> Result<u64> {
        // The newest line to remove. Lines that are appended after this query are newer.
        let last: Option<i64> = sqlx::query_scalar(
            "SELECT id FROM log_lines WHERE function_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2",
        )
        .bind(function_id)
        .bind(keep)
        .fetch_optional(self.log_db().readers())
        .await?;
        let Some(last) = last else { return Ok(0) };
        let mut removed = 0;
        loop {
            let mut tx = self.log_db().begin().await?;
            let batch = sqlx::query(
                "DELETE FROM log_lines WHERE id IN (
                     SELECT id FROM log_lines WHERE function_id = $1 AND id <= $2 LIMIT $3)",
            )
            .bind(function_id)
            .bind(last)
            .bind(TRIM_LINES)
            .execute(&mut *tx)
            .await?
            .rows_affected();
            tx.commit().await?;
            removed += batch;
            if batch < u64::from(TRIM_LINES) {
                return Ok(removed);
            }
        }
    }
}

/// The number of the guest's file descriptor; 0, which is standard input there, is the platform.
fn stream_number(stream: LogSource) -> i64 {
    match stream {
        LogSource::System => 0,
        LogSource::Stdout => 1,
        LogSource::Stderr => 2,
    }
}

fn read_line(row: &SqliteRow) -> Result<StoredLogLine> {
    let stream = match row.try_get("stream")? {
        0_i64 => LogSource::System,
        1 => LogSource::Stdout,
        2 => LogSource::Stderr,
        other => {
            return Err(Error::Inconsistent { reason: format!("log stream {other}") });
        }
    };
    Ok(StoredLogLine {
        id: row.try_get("id")?,
        function_id: row.try_get("function_id")?,
        time_ms: row.try_get("time_ms")?,
        invocation: row.try_get("invocation")?,
        revision: row.try_get("revision")?,
        stream,
        line: row.try_get("line")?,
    })
}
