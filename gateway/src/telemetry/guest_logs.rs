//! Stores the log lines of guests.
//!
//! One task writes one batch after the other. Guests never wait for it: when it falls behind, the
//! channel fills, and the pool drops lines and counts them.

use runtime_pool::{LogLine, LogStream};
use store::Store;
use tokio::sync::mpsc;

use crate::{clock::now_ms, telemetry::request_id::id_text};

/// How many lines may wait. Each has at most a few kilobytes.
pub(crate) const CHANNEL_LINES: usize = 4_096;
/// How many lines one transaction stores at most.
const BATCH_LINES: usize = 512;
/// After how many lines old ones are deleted.
const TRIM_EVERY: usize = 10_000;

/// Stores lines until the channel is closed and empty.
pub(crate) async fn store_lines(
    store: Store,
    mut lines: mpsc::Receiver<LogLine>,
    lines_per_function: u32,
) {
    let mut batch = Vec::with_capacity(BATCH_LINES);
    let mut written = 0;
    while lines.recv_many(&mut batch, BATCH_LINES).await > 0 {
        let time_ms = now_ms();
        let rows: Vec<_> = batch.drain(..).filter_map(|line| row(line, time_ms)).collect();
        written += rows.len();
        if let Err(error) = store.append_logs(&rows).await {
            tracing::error!(%error, lines = rows.len(), "log lines of functions are lost");
        }
        if written >= TRIM_EVERY {
            written = 0;
            if let Err(error) = store.trim_logs(lines_per_function).await {
                tracing::error!(%error, "old log lines of functions could not be deleted");
            }
        }
    }
}

/// `None` for the lines of an artifact that is being tried at a deploy: it has no function yet.
fn row(line: LogLine, time_ms: i64) -> Option<store::NewLogLine> {
    (line.function.function != 0).then(|| store::NewLogLine {
        function_id: line.function.function,
        time_ms,
        invocation: String::from_utf8_lossy(&id_text(line.invocation)).into_owned(),
        revision: line.function.revision,
        stream: match line.stream {
            LogStream::Stdout => store::LogSource::Stdout,
            LogStream::Stderr => store::LogSource::Stderr,
            LogStream::System => store::LogSource::System,
        },
        line: line.line,
    })
}
