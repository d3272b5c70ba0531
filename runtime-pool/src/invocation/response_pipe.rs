//! The rest of a response whose guest goes on after the head: from the guest's task to the
//! connection.
//!
//! The guest's task takes what the guest writes while the guest writes it, so that single bytes
//! leave together; it lets go of little only when the guest itself has nothing more for now.

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

/// What was written and has not left. Bounded: the guest waits for the reader.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Small writes are merged up to this many bytes.
    merge_bytes: usize,
    /// This much may wait.
    chunk_bytes: usize,
    state: Mutex<State>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

#[derive(Debug)]
struct State {
    /// Pieces that need no merging.
    pieces: VecDeque<Bytes>,
    /// What comes after them and is still being merged.
    small: BytesMut,
    queued: usize,
    /// Whether what is being merged may leave, however little it is.
    flushed: bool,
    end: Option<BodyEnd>,
}

/// How a body ends.
#[derive(Debug)]
pub(crate) enum BodyEnd {
    /// As its guest meant it to.
    Whole(Option<http::HeaderMap>),
    Broken(BodyError),
}

impl Pipe {
    /// A pipe that begins with what has been written already.
    pub(crate) fn new(begun: BytesMut, limits: &GuestLimits) -> Arc<Self> {
        let state = State {
            pieces: VecDeque::new(),
            queued: begun.len(),
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room to write; if not, the task is woken when there is.
    pub(crate) fn has_room(&self, cx: &Context<'_>) -> bool {
        // Registered before the check: the reader may make room between the two.
        self.writer.register(cx.waker());
        self.lock().queued < self.chunk_bytes
    }

    pub(crate) fn write(&self, data: Bytes) {
        let mut state = self.lock();
        state.queued += data.len();
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
        let enough = state.queued >= self.merge_bytes;
        drop(state);
        if enough {
            self.reader.wake();
        }
    }

    /// Nothing more comes for now.
    pub(crate) fn flush(&self) {
        let mut state = self.lock();
        let something = !state.small.is_empty();
        state.flushed |= something;
        drop(state);
        if something {
            self.reader.wake();
        }
    }

    /// Nothing more comes at all.
    pub(crate) fn end(&self, end: BodyEnd) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(end);
        }
        drop(state);
        self.reader.wake();
    }

    fn poll_read(&self, cx: &Context<'_>) -> Poll<Read> {
        // Registered before the look: something may be written between the two.
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
                // Whoever asks again after the trailers is told of the end.
                let end = state.end.take().map(Read::BodyEnd);
                if matches!(end, Some(Read::BodyEnd(BodyEnd::Whole(_)))) {
                    state.end = Some(BodyEnd::Whole(None));
                }
                return end.map_or(Poll::Pending, Poll::Ready);
            }
        };
        state.queued -= data.len();
        drop(state);
        self.writer.wake();
        Poll::Ready(Read::Data(data))
    }
}

enum Read {
    Data(Bytes),
    BodyEnd(BodyEnd),
}

/// The connection's end of a pipe.
#[derive(Debug)]
pub(crate) struct Streaming {
    pub(crate) pipe: Arc<Pipe>,
    pub(crate) guest: GuestTask,
    pub(crate) cut: AbortReport,
}

impl Streaming {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.pipe.poll_read(cx).map(|read| match read {
            Read::Data(data) => Some(Ok(Frame::data(data))),
            Read::BodyEnd(BodyEnd::Whole(trailers)) => {
                self.guest.may_end_by_itself = true;
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
            Read::BodyEnd(BodyEnd::Broken(error)) => {
                self.cut.record(&error);
                Some(Err(error))
            }
        })
    }
}

/// The task in which a guest goes on after the head of its response.
#[derive(Debug)]
pub(crate) struct GuestTask {
    pub(crate) abort: AbortHandle,
    /// Whether the response has reached its end.
    pub(crate) may_end_by_itself: bool,
}

impl Drop for GuestTask {
    fn drop(&mut self) {
        // The client has left, or the response was cut, and nobody wants the rest. Otherwise the
        // task gives the guest a moment and then ends itself.
        if !self.may_end_by_itself {
            self.abort.abort();
        }
    }
}

/// Says that a response broke off after its head was sent.
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

    /// Merges up to 10 bytes; 100 may wait.
    fn pipe(begun: &[u8]) -> Arc<Pipe> {
        let limits =
            GuestLimits { merge_bytes: 10, body_chunk_bytes: 100, ..GuestLimits::default() };
        Pipe::new(BytesMut::from(begun), &limits)
    }

    /// What can be read without waiting, piece by piece; and whether the end was among it.
    fn read(pipe: &Pipe) -> (Vec<usize>, bool) {
        let cx = Context::from_waker(Waker::noop());
        let mut pieces = Vec::new();
        loop {
            match pipe.poll_read(&cx) {
                Poll::Ready(Read::Data(data)) => pieces.push(data.len()),
                Poll::Ready(Read::BodyEnd(_)) => return (pieces, true),
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
        pipe.end(BodyEnd::Whole(None));
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
