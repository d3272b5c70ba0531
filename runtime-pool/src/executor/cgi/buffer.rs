//! Request bodies of unknown length, which are buffered before a command runs.
//!
//! Many programs read as much as `CONTENT_LENGTH` says and nothing without it (RFC 3875, section
//! 4.1.2). So a body that comes in chunks is taken in first: its beginning in memory, the rest in a
//! file without a name, which is gone when the process is.

use std::{io, path::PathBuf, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use prometheus::IntGauge;
use tokio::{
    fs::File,
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
};
use tokio_util::io::ReaderStream;

use crate::{
    InvokeError,
    executor::request::{BodyError, FunctionCall, RequestBody},
    limits::GuestLimits,
};

/// Bytes that are read from or written to a file at once.
const FILE_BYTES: usize = 64 << 10;

/// Where bodies are buffered, and how much of that.
#[derive(Clone, Debug)]
pub struct BufferConfig {
    /// The directory of the files. They never have a name for longer than it takes to remove it.
    pub dir: PathBuf,
    /// Bytes of all buffered bodies of the node together.
    pub bytes: u64,
}

/// The buffered bodies of the node.
#[derive(Debug)]
pub(crate) struct BodyBuffers {
    config: BufferConfig,
    /// The bytes that are buffered. This is also the gauge of the metrics.
    used: IntGauge,
}

/// Bytes of the node's budget, given back with the body that has them.
#[derive(Debug)]
struct Taken {
    buffers: Arc<BodyBuffers>,
    bytes: u64,
}

/// A body that arrives.
struct Buffer {
    taken: Taken,
    beginning: BytesMut,
    rest: Option<File>,
}

/// Whether a request has a body whose length nobody knows yet.
pub(crate) fn is_of_unknown_length(call: &FunctionCall) -> bool {
    matches!(call.body, RequestBody::Stream(_))
        && !call.head.headers.contains_key(header::CONTENT_LENGTH)
}

impl BodyBuffers {
    pub(crate) fn new(config: BufferConfig, used: IntGauge) -> Self {
        Self { config, used }
    }

    /// Takes in the whole body, and tells its length as if the client had.
    pub(crate) async fn take_in(
        self: &Arc<Self>,
        call: &mut FunctionCall,
        limits: &GuestLimits,
    ) -> Result<(), InvokeError> {
        let mut body = std::mem::take(&mut call.body);
        let taken = Taken { buffers: Arc::clone(self), bytes: 0 };
        let mut buffer = Buffer { taken, beginning: BytesMut::new(), rest: None };
        while let Some(frame) = body.frame().await {
            // Trailers have no place in a program's input.
            if let Ok(data) = frame.map_err(|error| client_failed(&error))?.into_data() {
                buffer.push(&data, limits).await?;
            }
        }
        call.head.headers.remove(header::TRANSFER_ENCODING);
        call.head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(buffer.taken.bytes));
        call.body = buffer.into_body().await.map_err(|error| file_failed(&error))?;
        Ok(())
    }
}

impl Buffer {
    async fn push(&mut self, data: &Bytes, limits: &GuestLimits) -> Result<(), InvokeError> {
        self.taken.more(data.len() as u64, limits.buffer_bytes)?;
        if self.rest.is_none() && self.beginning.len() + data.len() <= limits.buffer_memory_bytes {
            self.beginning.extend_from_slice(data);
            return Ok(());
        }
        self.write(data).await.map_err(|error| file_failed(&error))
    }

    async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let file = match &mut self.rest {
            Some(file) => file,
            none => {
                let dir = self.taken.buffers.config.dir.clone();
                let made = tokio::task::spawn_blocking(|| tempfile::tempfile_in(dir));
                let mut file = File::from_std(made.await.map_err(io::Error::other)??);
                file.set_max_buf_size(FILE_BYTES);
                none.insert(file)
            }
        };
        file.write_all(data).await
    }

    /// The body for the guest, which holds its bytes of the budget until it is dropped.
    async fn into_body(self) -> io::Result<RequestBody> {
        let Self { taken, beginning, rest } = self;
        let beginning = beginning.freeze();
        let body = match rest {
            None => Full::new(beginning).map_err(|never| match never {}).boxed_unsync(),
            Some(mut file) => {
                // What a write could not store is reported here.
                file.flush().await?;
                file.rewind().await?;
                let rest = ReaderStream::with_capacity(file, FILE_BYTES);
                let pieces = stream::iter([Ok(beginning)]).chain(rest);
                StreamBody::new(pieces.map(|piece| match piece {
                    Ok(bytes) => Ok(Frame::data(bytes)),
                    Err(error) => Err(BodyError::Client(error.into())),
                }))
                .boxed_unsync()
            }
        };
        // The closure owns the bytes of the budget.
        let body = body.map_frame(move |frame| {
            let _ = &taken;
            frame
        });
        Ok(RequestBody::Stream(body.boxed_unsync()))
    }
}

impl Taken {
    /// Takes more bytes for a body that may have `most`.
    fn more(&mut self, bytes: u64, most: u64) -> Result<(), InvokeError> {
        if self.bytes + bytes > most {
            return Err(InvokeError::BufferedBody(most));
        }
        let BodyBuffers { config, used } = &*self.buffers;
        used.add(bytes.cast_signed());
        self.bytes += bytes;
        if used.get().cast_unsigned() > config.bytes {
            return Err(InvokeError::Buffers);
        }
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.buffers.used.sub(self.bytes.cast_signed());
    }
}

/// The gateway also learns from the body itself what is wrong with it.
fn client_failed(error: &BodyError) -> InvokeError {
    match error {
        BodyError::RequestTooLarge(most) => InvokeError::BufferedBody(*most),
        BodyError::Client(_) | BodyError::Function | BodyError::Limit(_) => {
            InvokeError::Request(error.to_string())
        }
    }
}

fn file_failed(error: &io::Error) -> InvokeError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => InvokeError::NoSpace,
        _ => InvokeError::Start(format!("buffering the request's body: {error}")),
    }
}
