//! Functions' logs: the lines that guests write to standard output and standard error.
//!
//! Output is split into lines of limited length, counted, and sent to a bounded channel. Where
//! lines come faster than the channel's receiver takes them, they are dropped: a guest's log never
//! delays the gateway.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    error::Limit,
    limits::{GuestLimits, PerSecond},
    metrics::{PoolMetrics, printable::printable},
};

/// Names a revision of a function under the limits in force. The pool only compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FunctionKey {
    /// The function.
    pub function: i64,
    /// Its revision.
    pub revision: u32,
    /// Counts the changes of the limits that it has besides its own settings.
    pub generation: u32,
    /// A hash of the settings that it has instead of its own; 0 for its own.
    pub overlay: u128,
}

/// The source of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// The guest's standard output.
    Stdout,
    /// The guest's standard error.
    Stderr,
    /// The platform: a trap's details, limits hit, lines dropped.
    System,
}

/// One line of a function's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The function that the log belongs to.
    pub function: FunctionKey,
    /// The invocation that wrote it.
    pub invocation: u128,
    /// Its source.
    pub stream: LogStream,
    /// The line without its end, made printable.
    pub line: String,
}

/// The log of one function, which its invocations share.
#[derive(Debug)]
pub(crate) struct FunctionLog {
    function: FunctionKey,
    lines: mpsc::Sender<LogLine>,
    /// Bytes of lines.
    rate: PerSecond,
    line_bytes: usize,
    body_chunk_bytes: usize,
    metrics: PoolMetrics,
}

impl FunctionLog {
    pub(crate) fn new(
        function: FunctionKey,
        lines: mpsc::Sender<LogLine>,
        limits: &GuestLimits,
        metrics: PoolMetrics,
    ) -> Self {
        Self {
            function,
            lines,
            rate: PerSecond::new(limits.log_bytes_per_second),
            line_bytes: limits.log_line_bytes,
            body_chunk_bytes: limits.body_chunk_bytes,
            metrics,
        }
    }

    /// Writes lines of the platform's own.
    pub(crate) fn system(&self, invocation: u128, text: &str) {
        for line in text.lines().filter(|line| !line.is_empty()) {
            self.send(invocation, LogStream::System, shown(line.as_bytes()));
        }
    }

    fn send(&self, invocation: u128, stream: LogStream, line: String) -> bool {
        // The end of a line counts as a byte, so that empty lines are limited, too.
        if !self.rate.take(line.len() as u64 + 1) {
            self.metrics.limit_hit(Limit::LogRate);
            self.metrics.log_lines_dropped.inc();
            return false;
        }
        let line = LogLine { function: self.function, invocation, stream, line };
        match self.lines.try_send(line) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.metrics.log_lines_dropped.inc();
                false
            }
        }
    }
}

/// The log of one invocation.
#[derive(Debug)]
pub(crate) struct InvocationLog {
    function: Arc<FunctionLog>,
    buffers: Mutex<Buffers>,
}

#[derive(Debug)]
struct Buffers {
    invocation: u128,
    left: usize,
    dropped_bytes: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl InvocationLog {
    pub(crate) fn new(function: Arc<FunctionLog>, invocation: u128, bytes: usize) -> Arc<Self> {
        let buffers = Mutex::new(Buffers::new(invocation, bytes));
        Arc::new(Self { function, buffers })
    }

    /// Ends the log of the last invocation, and begins that of the next.
    pub(crate) fn begin_invocation(&self, invocation: u128, bytes: usize) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        self.end(&mut buffers);
        *buffers = Buffers::new(invocation, bytes);
    }

    /// Writes lines of the platform's own about this invocation.
    pub(crate) fn system(&self, text: &str) {
        self.function.system(self.invocation(), text);
    }

    /// The invocation that runs.
    pub(crate) fn invocation(&self) -> u128 {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).invocation
    }

    /// The largest write of the function to a body, in bytes.
    pub(crate) fn body_chunk_bytes(&self) -> usize {
        self.function.body_chunk_bytes
    }

    /// The metrics in which the function's log is counted.
    pub(crate) fn metrics(&self) -> &PoolMetrics {
        &self.function.metrics
    }

    /// Sends unfinished lines, and a line that says how many bytes were dropped.
    fn end(&self, buffers: &mut Buffers) {
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            if !buffers.of(stream).is_empty() {
                self.end_line(buffers, stream, 0);
            }
        }
        if buffers.dropped_bytes > 0 {
            let bytes = buffers.dropped_bytes;
            self.function.metrics.limit_hit(Limit::LogBytes);
            self.function.metrics.log_bytes_dropped.inc_by(bytes);
            self.function.system(
                buffers.invocation,
                &format!(
                    "{bytes} bytes of this invocation's log were dropped (log_bytes, \
                     guests.log_line_bytes, guests.log_bytes_per_second)"
                ),
            );
        }
    }

    /// Takes a write of the guest.
    pub(crate) fn write(&self, stream: LogStream, bytes: &[u8]) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.left == 0 {
            // Nothing more is kept, so nothing needs to be looked at.
            buffers.dropped_bytes += bytes.len() as u64;
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            let buffer = buffers.of(stream);
            let kept = text.len().min(self.function.line_bytes - buffer.len());
            buffer.extend_from_slice(&text[..kept]);
            buffers.dropped_bytes += (text.len() - kept) as u64;
            if ended {
                self.end_line(&mut buffers, stream, 1);
            }
        }
    }

    /// Sends the buffered line. Its end takes `end` bytes: none if the guest has not ended it.
    fn end_line(&self, buffers: &mut Buffers, stream: LogStream, end: usize) {
        let line = std::mem::take(buffers.of(stream));
        let bytes = line.len() + end;
        if buffers.left < bytes {
            buffers.left = 0;
            buffers.dropped_bytes += bytes as u64;
            return;
        }
        buffers.left -= bytes;
        if !self.function.send(buffers.invocation, stream, shown(&line)) {
            buffers.dropped_bytes += bytes as u64;
        }
    }
}

impl Buffers {
    fn new(invocation: u128, bytes: usize) -> Self {
        Self { invocation, left: bytes, dropped_bytes: 0, stdout: Vec::new(), stderr: Vec::new() }
    }

    fn of(&mut self, stream: LogStream) -> &mut Vec<u8> {
        match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr | LogStream::System => &mut self.stderr,
        }
    }
}

impl Drop for InvocationLog {
    fn drop(&mut self) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        self.end(&mut buffers);
    }
}

/// A line as text that a terminal shows without obeying it.
fn shown(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = String::from_utf8_lossy(line);
    match printable(&text) {
        Cow::Borrowed(_) => text.into_owned(),
        Cow::Owned(escaped) => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: usize, writes: &[&[u8]]) -> Vec<String> {
        let (sender, mut receiver) = mpsc::channel(100);
        let metrics = PoolMetrics::register(&prometheus::Registry::new()).unwrap();
        let key = FunctionKey { function: 1, revision: 1, generation: 0, overlay: 0 };
        let function = FunctionLog::new(key, sender, &GuestLimits::default(), metrics);
        let function = Arc::new(function);
        let log = InvocationLog::new(function, 7, bytes);
        for write in writes {
            log.write(LogStream::Stdout, write);
        }
        drop(log);
        let mut lines = Vec::new();
        while let Ok(line) = receiver.try_recv() {
            lines.push(line.line);
        }
        lines
    }

    #[test]
    fn lines_are_put_together_from_writes_and_an_unfinished_one_is_kept() {
        assert_eq!(written(100, &[b"on", b"e\ntwo\n", b"thr", b"ee"]), ["one", "two", "three"]);
    }

    #[test]
    fn output_beyond_the_limit_is_dropped_and_counted() {
        let lines = written(8, &[b"12345\n", b"67890\n", b"1\n"]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], "12345");
        assert!(lines[1].starts_with("8 bytes"), "{lines:?}");
    }

    #[test]
    fn lines_of_nothing_count() {
        let lines = written(10, &[b"\n".as_slice(); 30]);
        assert_eq!(lines.len(), 11);
        assert!(lines[10].starts_with("20 bytes"), "{lines:?}");
    }

    #[test]
    fn a_long_line_is_cut() {
        let lines = written(100_000, &[&[b'x'; 5_000], b"\n"]);
        assert_eq!(lines[0].len(), 4 << 10);
        assert!(lines[1].starts_with("904 bytes"));
    }

    #[test]
    fn escape_sequences_become_inert() {
        assert_eq!(written(100, &[b"a\x1b[2Jb\rc\r\n"]), ["a\\u{1b}[2Jb\\rc"]);
    }
}
