//! Compresses a body while it is sent. What the function has written leaves at once when it pauses, so
//! that streams of events arrive as they are made.

use std::{
    io::Write as _,
    pin::Pin,
    task::{Context, Poll},
};

use brotli::{CompressorWriter, enc::BrotliEncoderParams};
use bytes::Bytes;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http_body::{Body, Frame};
use runtime_pool::{BodyError, ResponseBody};
use tokio::sync::OwnedSemaphorePermit;

use crate::functions::routes::coding::Coding;

/// Bytes that are compressed before other requests of the thread have their turn.
const TURN_BYTES: usize = 64 << 10;
/// Compressed bytes that leave together while the function goes on writing.
const OUT_BYTES: usize = 16 << 10;
/// Bytes of a part of a body that are compressed at once.
const PIECE_BYTES: usize = 16 << 10;
/// Fast, and better than gzip's best.
const BROTLI_QUALITY: i32 = 4;
/// The memory of both: windows of 256 KiB.
const WINDOW_LOG: u32 = 18;
const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 6;

/// Compresses into a buffer.
pub(super) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// `None` if there is no memory for it.
    pub(super) fn new(coding: Coding) -> Option<Self> {
        Some(match coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Self::Gzip(GzEncoder::new(Vec::new(), level))
            }
            Coding::Brotli => {
                let parameters = BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    lgwin: WINDOW_LOG as i32,
                    ..BrotliEncoderParams::default()
                };
                let writer = CompressorWriter::with_params(Vec::new(), PIECE_BYTES, &parameters);
                Self::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut writer = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).ok()?;
                writer.window_log(WINDOW_LOG).ok()?;
                Self::Zstd(writer)
            }
        })
    }

    // Writing to a vector cannot fail.
    fn write(&mut self, bytes: &[u8]) {
        let _ = match self {
            Self::Gzip(writer) => writer.write_all(bytes),
            Self::Brotli(writer) => writer.write_all(bytes),
            Self::Zstd(writer) => writer.write_all(bytes),
        };
    }

    fn flush(&mut self) {
        let _ = match self {
            Self::Gzip(writer) => writer.flush(),
            Self::Brotli(writer) => writer.flush(),
            Self::Zstd(writer) => writer.flush(),
        };
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(writer) => writer.get_mut(),
            Self::Brotli(writer) => writer.get_mut(),
            Self::Zstd(writer) => writer.get_mut(),
        }
    }

    /// The last bytes.
    fn finish(self) -> Vec<u8> {
        match self {
            Self::Gzip(writer) => writer.finish().unwrap_or_default(),
            Self::Brotli(writer) => writer.into_inner(),
            Self::Zstd(writer) => writer.finish().unwrap_or_default(),
        }
    }
}

/// A body that is compressed.
pub(super) struct EncodedBody {
    /// `None` after the end.
    encoder: Option<Encoder>,
    /// What was read of the body and is not compressed.
    input: Bytes,
    /// Whether the encoder may hold bytes back.
    unflushed: bool,
    trailers: Option<HeaderMap>,
    _place: OwnedSemaphorePermit,
}

impl EncodedBody {
    pub(super) fn new(encoder: Encoder, place: OwnedSemaphorePermit) -> Self {
        let (encoder, input) = (Some(encoder), Bytes::new());
        Self { encoder, input, unflushed: false, trailers: None, _place: place }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }

    /// Compresses what the body has, and flushes when it has nothing at the moment.
    pub(super) fn poll_frame(
        &mut self,
        body: &mut ResponseBody,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut turn = TURN_BYTES;
        loop {
            let Some(encoder) = &mut self.encoder else {
                return Poll::Ready(self.trailers.take().map(|fields| Ok(Frame::trailers(fields))));
            };
            if encoder.buffer().len() >= OUT_BYTES {
                return data(std::mem::take(encoder.buffer()));
            }
            if !self.input.is_empty() {
                if turn == 0 {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let piece = self.input.split_to(self.input.len().min(PIECE_BYTES));
                turn = turn.saturating_sub(piece.len());
                encoder.write(&piece);
                self.unflushed = true;
                continue;
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => {
                    if std::mem::take(&mut self.unflushed) {
                        encoder.flush();
                    }
                    let out = std::mem::take(encoder.buffer());
                    return if out.is_empty() { Poll::Pending } else { data(out) };
                }
                Poll::Ready(Some(Err(error))) => {
                    self.encoder = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => {
                        self.input = bytes;
                        continue;
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                Poll::Ready(None) => {}
            }
            // Nothing comes after trailers.
            if let Some(encoder) = self.encoder.take() {
                return data(encoder.finish());
            }
        }
    }
}

fn data(bytes: Vec<u8>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    Poll::Ready(Some(Ok(Frame::data(bytes.into()))))
}
