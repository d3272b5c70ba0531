//! The rest of a response whose guest continues after the head: from the guest's task to the
//! connection.
//!
//! The guest's task takes what the guest writes, and merges small writes so that they leave
//! together. It flushes them when the guest has nothing more to write for now.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http_body::Frame;
use tokio::task::AbortHandle;

use crate::{
    executor::request::BodyError,
    limits::GuestLimits,
    metrics::{PoolMetrics, guest_log::FunctionLog},
};

/// A buffer of the bytes between the guest and the reader. Bounded: the guest waits for the reader.
#[derive(Debug)]
pub(crate) struct ResponsePipe {
    /// Small writes are merged up to this many bytes.
    merge_bytes: usize,
    /// Bytes that may wait for the reader.
    chunk_bytes: usize,
    state: Mutex<Queued>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

#[derive(Debug)]
struct Queued {
    /// Pieces that need no merging.
    pieces: VecDeque<Bytes>,
    /// Small writes after those pieces, which are being merged.
    small: BytesMut,
    bytes: usize,
    /// Whether the small writes may leave before they reach `merge_bytes`.
    flushed: bool,
    end: Option<BodyEnd>,
}

/// How a body ends.
#[derive(Debug)]
pub(crate) enum BodyEnd {
    /// As the guest intended, perhaps with trailers.
    Complete(Option<http::HeaderMap>),
    Aborted(BodyError),
}

impl ResponsePipe {
    /// A pipe that begins with what has already been collected.
    pub(crate) fn new(begun: BytesMut, limits: &GuestLimits) -> Arc<Self> {
        let state = Queued {
            pieces: VecDeque::new(),
            bytes: begun.len(),
            flushed: !begun.is_empty(),
            small: begun,
            end: None,
        };
        Arc::new(Self {
            merge_bytes: limits.merge_bytes,
            chunk_bytes: limits.body_chunk_bytes,
            state: Mutex::new(state),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room to write. If not, the task is woken when there is.
    pub(crate) fn has_room(&self, cx: &Context<'_>) -> bool {
        // Registered before the check: otherwise the reader could make room between the two, and
        // nothing would wake the task.
        self.writer.register(cx.waker());
        self.lock().bytes < self.chunk_bytes
    }

    pub(crate) fn write(&self, data: Bytes) {
        let mut state = self.lock();
        state.bytes += data.len();
        if data.len() >= self.merge_bytes {
            if !state.small.is_empty() {
                let small = state.small.split().freeze();
                state.pieces.push_back(small);
                state.flushed = false;
            }
            state.pieces.push_back(data);
        } else {
            state.small.extend_from_slice(&data);
        }
        let enough = state.bytes >= self.merge_bytes;
        drop(state);
        if enough {
            self.reader.wake();
        }
    }

    /// Lets small writes leave: the guest writes nothing more for now.
    pub(crate) fn flush(&self) {
        let mut state = self.lock();
        let something = !state.small.is_empty();
        state.flushed |= something;
        drop(state);
        if something {
            self.reader.wake();
        }
    }

    /// Ends the body. The first end counts.
    pub(crate) fn end(&self, end: BodyEnd) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(end);
        }
        drop(state);
        self.reader.wake();
    }

    fn poll_read(&self, cx: &Context<'_>) -> Poll<PipeRead> {
        // Registered before the check, for the same reason as in `has_room`.
        self.reader.register(cx.waker());
        let mut state = self.lock();
        let ready = state.flushed || state.small.len() >= self.merge_bytes || state.end.is_some();
        let data = match state.pieces.pop_front() {
            Some(piece) => piece,
            None if ready && !state.small.is_empty() => {
                state.flushed = false;
                state.small.split().freeze()
            }
            None => {
                // A reader that polls again after the trailers sees the end.
                let end = state.end.take().map(PipeRead::End);
                if matches!(end, Some(PipeRead::End(BodyEnd::Complete(_)))) {
                    state.end = Some(BodyEnd::Complete(None));
                }
                return end.map_or(Poll::Pending, Poll::Ready);
            }
        };
        state.bytes -= data.len();
        drop(state);
        self.writer.wake();
        Poll::Ready(PipeRead::Data(data))
    }
}

enum PipeRead {
    Data(Bytes),
    End(BodyEnd),
}

/// The connection's end of a pipe: the body of a response.
#[derive(Debug)]
pub(crate) struct StreamedBody {
    pub(crate) pipe: Arc<ResponsePipe>,
    pub(crate) guest: GuestTask,
    pub(crate) abort_report: AbortReport,
}

impl StreamedBody {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.pipe.poll_read(cx).map(|read| match read {
            PipeRead::Data(data) => Some(Ok(Frame::data(data))),
            PipeRead::End(BodyEnd::Complete(trailers)) => {
                self.guest.may_end_by_itself = true;
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
            PipeRead::End(BodyEnd::Aborted(error)) => {
                self.abort_report.record(&error);
                Some(Err(error))
            }
        })
    }
}

/// The task in which a guest continues after the head of its response. Aborted on drop, unless the
/// response is complete.
#[derive(Debug)]
pub(crate) struct GuestTask {
    pub(crate) abort: AbortHandle,
    /// Whether the response is complete.
    pub(crate) may_end_by_itself: bool,
}

impl Drop for GuestTask {
    fn drop(&mut self) {
        // The client has left, or the response was aborted. Otherwise the task gives the guest a
        // little time and then ends by itself.
        if !self.may_end_by_itself {
            self.abort.abort();
        }
    }
}

/// Reports that a response was aborted after its head was sent.
#[derive(Debug)]
pub(crate) struct AbortReport {
    pub(crate) metrics: PoolMetrics,
    pub(crate) log: Arc<FunctionLog>,
    pub(crate) invocation: u128,
}

impl AbortReport {
    fn record(&self, error: &BodyError) {
        self.metrics.responses_aborted.inc();
        if let BodyError::Limit(limit) = error {
            self.metrics.limit_hit(*limit);
            self.log.system(self.invocation, &error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Merges up to 10 bytes. 100 may wait.
    fn pipe(begun: &[u8]) -> Arc<ResponsePipe> {
        let limits =
            GuestLimits { merge_bytes: 10, body_chunk_bytes: 100, ..GuestLimits::default() };
        ResponsePipe::new(BytesMut::from(begun), &limits)
    }

    /// The sizes of the pieces that can be read without waiting, and whether the end was among them.
    fn read(pipe: &ResponsePipe) -> (Vec<usize>, bool) {
        let cx = Context::from_waker(Waker::noop());
        let mut pieces = Vec::new();
        loop {
            match pipe.poll_read(&cx) {
                Poll::Ready(PipeRead::Data(data)) => pieces.push(data.len()),
                Poll::Ready(PipeRead::End(_)) => return (pieces, true),
                Poll::Pending => return (pieces, false),
            }
        }
    }

    #[test]
    fn little_leaves_only_when_there_is_no_more_for_now() {
        let pipe = pipe(b"");
        (0..9).for_each(|_| pipe.write(Bytes::from_static(b"x")));
        assert_eq!(read(&pipe), (vec![], false));
        pipe.write(Bytes::from_static(b"x"));
        assert_eq!(read(&pipe), (vec![10], false));
        pipe.write(Bytes::from_static(b"x"));
        pipe.flush();
        assert_eq!(read(&pipe), (vec![1], false));
        pipe.write(Bytes::from_static(b"x"));
        pipe.end(BodyEnd::Complete(None));
        assert_eq!(read(&pipe), (vec![1], true));
    }

    #[test]
    fn large_pieces_leave_as_they_are_and_in_order() {
        let pipe = pipe(b"abc");
        pipe.write(vec![1; 20].into());
        pipe.write(vec![2; 30].into());
        pipe.write(vec![3; 4].into());
        assert_eq!(read(&pipe), (vec![3, 20, 30], false));
        pipe.flush();
        assert_eq!(read(&pipe), (vec![4], false));
    }

    #[test]
    fn there_is_room_until_a_chunk_waits() {
        let pipe = pipe(b"");
        let cx = Context::from_waker(Waker::noop());
        pipe.write(vec![0].into());
        assert!(pipe.has_room(&cx));
        pipe.write(vec![0; 99].into());
        assert!(!pipe.has_room(&cx));
        read(&pipe);
        assert!(pipe.has_room(&cx));
    }
}
