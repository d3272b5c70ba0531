//! Lines on their way to a reader that may stall.
//!
//! An event is formatted and copied into a buffer; one thread writes the buffer. While the reader
//! stalls, the buffer fills, and further lines are dropped and counted. Only the writer's thread
//! ever waits for the reader.

use std::{
    io::{self, Write},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use prometheus::IntCounter;

/// The interval between lines about dropped lines.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Time before another attempt to write to a stream that is set not to block.
const WRITE_AGAIN: Duration = Duration::from_millis(10);
/// A buffer that a burst has made larger than this is given back.
const KEPT_BYTES: usize = 64 << 10;

/// Lines that wait to be written, up to a number of bytes. A second buffer of that size is being
/// written meanwhile.
#[derive(Debug)]
pub(crate) struct LineBuffer {
    waiting: Mutex<WaitingLines>,
    /// Notified when lines wait.
    filled: Condvar,
    /// Notified when no line waits.
    emptied: Condvar,
    bytes_max: usize,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct WaitingLines {
    bytes: Vec<u8>,
    /// Whether the thread is writing lines that it has taken.
    writing: bool,
    /// Dropped lines that no line of the log has reported.
    unreported: u64,
}

impl LineBuffer {
    pub(crate) fn new(bytes_max: usize, dropped: IntCounter) -> Self {
        let (waiting, filled, emptied) = Default::default();
        Self { waiting, filled, emptied, bytes_max, dropped }
    }

    /// Adds a line, or drops it when there is no room. Never waits for the reader: the lock is held
    /// for copies in memory only.
    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes.len() + line.len() > self.bytes_max {
            waiting.unreported += 1;
            self.dropped.inc();
            return;
        }
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        self.filled.notify_one();
    }

    /// Writes lines to `out` for ever. Calls `report` with the number of dropped lines, at most
    /// once a second, as soon as there is room for a line about them.
    pub(crate) fn write_to(&self, mut out: impl Write, report: impl Fn(u64)) {
        let mut reported = Instant::now().checked_sub(REPORT_EVERY);
        loop {
            let due =
                reported.map_or(Duration::ZERO, |last| REPORT_EVERY.saturating_sub(last.elapsed()));
            let (lines, unreported) = self.take(due);
            if !lines.is_empty() {
                let lost = write_lines(&mut out, &lines);
                self.dropped.inc_by(lost);
                self.written(lines, lost);
            }
            if unreported > 0 {
                reported = Some(Instant::now());
                report(unreported);
            }
        }
    }

    /// Waits for lines, or for the time to report dropped ones. Returns the lines, and the number
    /// of dropped ones if it is to be reported.
    fn take(&self, due: Duration) -> (Vec<u8>, u64) {
        let mut waiting = self.lock();
        let since = Instant::now();
        loop {
            let left = due.saturating_sub(since.elapsed());
            let report = waiting.unreported > 0 && left.is_zero();
            if report || !waiting.bytes.is_empty() {
                let unreported = if report { std::mem::take(&mut waiting.unreported) } else { 0 };
                waiting.writing = !waiting.bytes.is_empty();
                return (std::mem::take(&mut waiting.bytes), unreported);
            }
            waiting = if waiting.unreported > 0 {
                let woken = self.filled.wait_timeout(waiting, left);
                woken.unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// Ends the writing of `lines`, whose memory is used again.
    fn written(&self, mut lines: Vec<u8>, lost: u64) {
        let mut waiting = self.lock();
        waiting.writing = false;
        waiting.unreported += lost;
        if !waiting.bytes.is_empty() {
            return;
        }
        if lines.capacity() <= KEPT_BYTES {
            lines.clear();
            waiting.bytes = lines;
        }
        self.emptied.notify_all();
    }

    /// Waits until all lines are written, for a bounded time.
    pub(crate) fn flush(&self, within: Duration) {
        let waiting = self.lock();
        let unwritten = |waiting: &mut WaitingLines| waiting.writing || !waiting.bytes.is_empty();
        // When the time is over, the reader has stalled: what is left is lost with the process.
        let _ = self.emptied.wait_timeout_while(waiting, within, unwritten);
    }

    fn lock(&self) -> MutexGuard<'_, WaitingLines> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each write is one event: the subscriber formats it whole before it writes.
impl Write for &LineBuffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of `lines`, however long that takes. Returns the number of lines that could not be
/// written because the stream is broken.
fn write_lines(out: &mut impl Write, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match out.write(lines) {
            Ok(written @ 1..) => lines = &lines[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(WRITE_AGAIN),
            // The reader has gone, or its disk is full. A later write may succeed.
            Ok(0) | Err(_) => return memchr::memchr_iter(b'\n', lines).count() as u64,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    /// A reader that takes one write for each message it gets.
    struct Reader {
        allow: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            // Both ends are gone at the end of a test.
            self.allow.recv().map_err(io::Error::other)?;
            self.written.send(lines.to_vec()).map_err(io::Error::other)?;
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "dropped").unwrap()
    }

    /// Case O11.
    #[test]
    fn lines_beyond_the_buffer_are_dropped_counted_and_reported() {
        let dropped = counter();
        let buffer = Arc::new(LineBuffer::new(8, dropped.clone()));
        let (allowed, allow) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let (reported, reports) = mpsc::channel();
        let writing = Arc::clone(&buffer);
        thread::spawn(move || {
            writing.write_to(Reader { allow, written }, |count| reported.send(count).unwrap());
        });
        buffer.push(b"one\n");
        // The writer has taken the first line and waits for the reader.
        while !buffer.lock().writing {
            thread::yield_now();
        }
        for line in [b"two\n", b"thr\n", b"fou\n", b"fiv\n"] {
            buffer.push(line);
        }
        assert_eq!(dropped.get(), 2);
        buffer.flush(Duration::from_millis(1));
        assert!(buffer.lock().writing, "a flush gives up");

        allowed.send(()).unwrap();
        allowed.send(()).unwrap();
        assert_eq!(lines.recv().unwrap(), b"one\n");
        assert_eq!(lines.recv().unwrap(), b"two\nthr\n");
        assert_eq!(reports.recv().unwrap(), 2);
        buffer.flush(Duration::from_secs(60));
        assert!(!buffer.lock().writing && buffer.lock().bytes.is_empty());
    }

    #[test]
    fn a_broken_stream_loses_its_lines_and_counts_them() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(write_lines(&mut Broken, b"a\nb\n"), 2);
        assert_eq!(write_lines(&mut Vec::new(), b"a\nb\n"), 0);
    }
}
