//! Stores the log lines of guests.
//!
//! One task writes one batch after the other. Guests never wait for it: when it falls behind, the
//! channel fills, and the pool drops lines and counts them. Lines are the first to be given up when
//! the disk runs full: deploys need it more.

use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use runtime_pool::{LogLine, LogStream};
use store::Store;
use tokio::sync::mpsc;

use crate::{
    config::LogsSection,
    telemetry::{clock::now_ms, request_id::id_string},
};

/// How many lines may wait. Each has at most a few kilobytes.
pub(crate) const CHANNEL_LINES: usize = 4_096;
/// How many lines one transaction stores at most.
const BATCH_LINES: usize = 512;
/// After how many lines old ones are deleted.
const TRIM_EVERY: usize = 10_000;
/// Bytes that a line takes beside its text: its other columns, and its entries in two indexes.
const LINE_OVERHEAD: usize = 128;
/// The interval between looks at the free space of the disk.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The metric of lines that were not stored.
struct LostLines {
    disk: IntCounter,
    database: IntCounter,
}

impl LostLines {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let lost = IntCounterVec::new(
            Opts::new("mayfly_log_lines_lost_total", "Lines of functions that were not stored"),
            &["reason"],
        )?;
        registry.register(Box::new(lost.clone()))?;
        let reason = |reason| lost.with_label_values(&[reason]);
        Ok(Self { disk: reason("disk"), database: reason("database") })
    }
}

/// Stores the lines of guests.
pub(crate) struct LineStore {
    store: Store,
    lost: LostLines,
    lines_per_function: u32,
    bytes: u64,
    free_bytes: u64,
    /// Lines and bytes that were stored since old lines were deleted.
    fresh: (usize, usize),
    /// When the free space of the disk was last looked at.
    looked: Option<Instant>,
    /// Whether the disk has too little free space.
    full: bool,
}

impl LineStore {
    pub(crate) fn new(
        store: &Store,
        config: &LogsSection,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            store: store.clone(),
            lost: LostLines::register(registry)?,
            lines_per_function: u32::try_from(config.lines_per_function).unwrap_or(u32::MAX),
            bytes: config.bytes,
            free_bytes: config.free_bytes,
            // The limits may be lower than at the last start.
            fresh: (TRIM_EVERY, 0),
            looked: None,
            full: false,
        })
    }

    /// Stores lines until the channel is closed and empty.
    pub(crate) async fn run(mut self, mut lines: mpsc::Receiver<LogLine>) {
        let mut batch = Vec::with_capacity(BATCH_LINES);
        while lines.recv_many(&mut batch, BATCH_LINES).await > 0 {
            let time_ms = now_ms();
            let rows: Vec<_> = batch.drain(..).filter_map(|line| row(line, time_ms)).collect();
            self.look_at_the_disk().await;
            if self.full {
                self.lost.disk.inc_by(rows.len() as u64);
            } else {
                self.append(&rows).await;
            }
        }
    }

    async fn append(&mut self, rows: &[store::NewLogLine]) {
        if let Err(error) = self.store.append_logs(rows).await {
            self.lost.database.inc_by(rows.len() as u64);
            tracing::error!(%error, lines = rows.len(), "log lines of functions are lost");
            return;
        }
        self.fresh.0 += rows.len();
        self.fresh.1 += rows.iter().map(|row| row.line.len() + LINE_OVERHEAD).sum::<usize>();
        // A sixteenth is the most by which the limit is exceeded in between.
        if self.fresh.0 >= TRIM_EVERY || self.fresh.1 as u64 >= self.bytes / 16 {
            self.fresh = (0, 0);
            if let Err(error) = self.trim().await {
                tracing::error!(%error, "old log lines of functions could not be deleted");
            }
        }
    }

    /// Deletes old lines. If all lines together take too much room, functions with many lines lose
    /// theirs first: half of the permitted number is kept, then a quarter, and so on.
    async fn trim(&self) -> store::Result<()> {
        let mut keep = self.lines_per_function;
        self.store.trim_logs(keep).await?;
        if self.store.log_bytes().await? <= self.bytes {
            return Ok(());
        }
        // Some room, so that the next lines do not exceed the limit at once.
        let enough = self.bytes - self.bytes / 8;
        while keep > 0 && self.store.log_bytes().await? > enough {
            keep /= 2;
            self.store.trim_logs(keep).await?;
        }
        Ok(())
    }

    async fn look_at_the_disk(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        // Unknown: the database reports a full disk itself.
        let Ok(free) = self.store.free_bytes().await else { return };
        let full = free < self.free_bytes;
        if full != self.full {
            let floor = self.free_bytes;
            tracing::warn!(full, free, floor, "the disk's room for log lines of functions");
        }
        self.full = full;
    }
}

/// `None` for the lines of an artifact that is being tried at a deploy: it has no function yet.
fn row(line: LogLine, time_ms: i64) -> Option<store::NewLogLine> {
    (line.function.function != 0).then(|| store::NewLogLine {
        function_id: line.function.function,
        time_ms,
        invocation: id_string(line.invocation),
        revision: line.function.revision,
        stream: match line.stream {
            LogStream::Stdout => store::LogSource::Stdout,
            LogStream::Stderr => store::LogSource::Stderr,
            LogStream::System => store::LogSource::System,
        },
        line: line.line,
    })
}

#[cfg(test)]
mod tests {
    use store::{LogQuery, NewRevision, Precondition, Quotas, StoreConfig, Tenant};

    use super::*;

    const MIB: u64 = 1 << 20;

    async fn publish(store: &Store, function: &str) -> i64 {
        let mut upload = store.begin_upload(100).await.unwrap();
        upload.write(b"bytes").await.unwrap();
        let new = NewRevision {
            tenant: Tenant::default(),
            function,
            actor: store::Actor::default(),
            release: store::Release::default(),
            kind: "component",
            settings: None,
            precondition: Precondition::Unconditional,
            request: None,
            quotas: Quotas::default(),
            now_ms: 0,
        };
        store.publish(&upload.finish().await.unwrap(), new).await.unwrap().function.id
    }

    fn lines(function_id: i64, count: usize, bytes: usize) -> Vec<store::NewLogLine> {
        let line = |n: usize| store::NewLogLine {
            function_id,
            time_ms: 0,
            invocation: "0".repeat(32),
            revision: 1,
            stream: store::LogSource::Stdout,
            line: format!("{n:0>bytes$}"),
        };
        (0..count).map(line).collect()
    }

    async fn count(store: &Store, function: i64) -> usize {
        let all = LogQuery { after: None, invocation: None, limit: 100_000 };
        store.logs(function, all).await.unwrap().len()
    }

    /// Case U17.
    #[tokio::test]
    async fn all_lines_together_take_bounded_room_and_the_noisiest_function_pays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        let (quiet, noisy) = (publish(&store, "quiet").await, publish(&store, "noisy").await);
        let config = LogsSection { bytes: 4 * MIB, ..LogsSection::default() };
        let mut to = LineStore::new(&store, &config, &Registry::new()).unwrap();
        to.append(&lines(quiet, 100, 100)).await;
        for _ in 0..64 {
            to.append(&lines(noisy, 64, 4_000)).await;
            let bytes = store.log_bytes().await.unwrap();
            assert!(bytes <= 4 * MIB + 4 * MIB / 8, "{bytes}");
        }
        assert_eq!(count(&store, quiet).await, 100);
        let kept = count(&store, noisy).await;
        assert!((200..1_200).contains(&kept), "{kept} of 4,096 lines are kept");
    }

    #[tokio::test]
    async fn no_line_is_stored_while_the_disk_has_too_little_room() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        for (free_bytes, full) in [(0, false), (u64::MAX, true)] {
            let config = LogsSection { free_bytes, ..LogsSection::default() };
            let mut to = LineStore::new(&store, &config, &Registry::new()).unwrap();
            to.look_at_the_disk().await;
            assert_eq!(to.full, full);
        }
    }
}
