//! `/v1/backup`: everything that the gateway has stored, as one archive.

use std::io::{self, BufWriter, Write};

use axum::{
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use serde::Deserialize;
use store::{Backup, BackupParts};
use tokio::{sync::mpsc, task::spawn_blocking};
use utoipa::IntoParams;

use crate::{
    control::{backup_metrics::BackupMetrics, extract::Binary, state::ControlState},
    problem::Problem,
    telemetry::clock::now_ms,
};

/// Bytes of the archive that are sent at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for a client that reads slowly.
const CHUNKS: usize = 4;

/// What a backup holds.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhichFiles {
    /// Whether it holds the log lines of functions, too.
    #[serde(default = "yes")]
    #[param(default = true)]
    logs: bool,
    /// Whether it holds the key of the secrets and the administrator's token, too.
    #[serde(default = "yes")]
    #[param(default = true)]
    keys: bool,
}

fn yes() -> bool {
    true
}

/// Makes a backup.
///
/// The archive holds everything: functions with their artifacts and files, settings, secrets and the key
/// that they are encrypted with, tokens, calls and messages that wait, what functions keep in stores, and log lines. `mayfly restore`
/// makes a data directory of it. Requests, deploys and messages go on meanwhile; what was acknowledged
/// before this was asked for is in it.
#[utoipa::path(
    get, path = "/v1/backup", tag = "node",
    operation_id = "backUp",
    params(WhichFiles),
    responses(
        (status = 200, description = "A tar archive", body = Binary, content_type = "application/x-tar"),
        (status = 400, description = "The query cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Another backup is being made", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left for the copies of databases", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn make(
    State(state): State<ControlState>,
    which: Result<Query<WhichFiles>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(WhichFiles { logs, keys }) =
        which.map_err(|error| Problem::bad_query(error.body_text()))?;
    let (created_ms, parts) = (now_ms(), BackupParts { logs, keys });
    let made = state.store.backup(parts, async |copy| state.stores.copy_into(copy).await).await;
    let backup = made.inspect_err(|error| {
        let outcome =
            if matches!(error, store::Error::BackupRunning) { "refused" } else { "failed" };
        state.backups.count(outcome);
    })?;
    let (chunks, mut sent) = mpsc::channel(CHUNKS);
    spawn_blocking(move || write(&backup, created_ms, &chunks, &state.backups));
    let body = Body::from_stream(stream::poll_fn(move |cx| sent.poll_recv(cx)));
    let mut response = body.into_response();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    // It holds keys.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Writes the archive to the client. Its end says how it went: without one, the response is cut off.
fn write(
    backup: &Backup,
    created_ms: i64,
    chunks: &mpsc::Sender<io::Result<Bytes>>,
    metrics: &BackupMetrics,
) {
    let writer = BufWriter::with_capacity(CHUNK_BYTES, Chunks(chunks));
    match backup.write_to(writer, env!("CARGO_PKG_VERSION"), created_ms) {
        Ok(size) => {
            metrics.sent(created_ms);
            tracing::info!(files = size.files, bytes = size.bytes, "a backup was sent");
        }
        Err(error) => {
            metrics.count("failed");
            tracing::warn!(%error, "a backup was not sent");
            // The client may be gone.
            let _ = chunks.blocking_send(Err(error));
        }
    }
}

/// Hands on what is written as chunks of a body. Waits while the client does not read.
struct Chunks<'a>(&'a mpsc::Sender<io::Result<Bytes>>);

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Ok(Bytes::copy_from_slice(bytes));
        self.0.blocking_send(chunk).map_err(|_| io::Error::other("the client has left"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
