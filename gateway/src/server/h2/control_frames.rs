//! Limits the control frames of an HTTP/2 connection.
//!
//! The protocol library closes connections that flood it with resets, empty data or endless header
//! blocks, but it answers every PING and accepts every SETTINGS. This module counts those, and
//! PRIORITY and unknown frames as well.

use std::ops::Range;

/// The first bytes of every client.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// Types of frames that are no control frames here, because the library limits them: DATA, HEADERS,
/// RST_STREAM, WINDOW_UPDATE and CONTINUATION.
const LIMITED_BY_LIBRARY: [u8; 5] = [0x0, 0x1, 0x3, 0x8, 0x9];
const WINDOW_MS: u64 = 1_000;

/// Frames that make the library close the connection with the error ENHANCE_YOUR_CALM: an endless
/// header block of empty frames. They take the place of the client's next frame.
pub(crate) const ENHANCE_YOUR_CALM: [u8; FRAME_HEAD * (1 + EMPTY)] = {
    const LAST_STREAM: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];
    let mut frames = [0; FRAME_HEAD * (1 + EMPTY)];
    let mut at = 0;
    while at < frames.len() {
        frames[at + 3] = if at == 0 { 0x1 } else { 0x9 };
        let mut byte = 0;
        while byte < 4 {
            frames[at + 5 + byte] = LAST_STREAM[byte];
            byte += 1;
        }
        at += FRAME_HEAD;
    }
    frames
};
/// More empty frames than the library accepts.
const EMPTY: usize = 32;

/// Finds the frames of a connection, and counts its control frames.
#[derive(Debug)]
pub(crate) struct ControlFrames {
    /// The limit for one second.
    max: u64,
    count: u64,
    /// When the current second began, in milliseconds since the connection was accepted.
    since: u64,
    head: [u8; FRAME_HEAD],
    /// How many bytes of the head have arrived.
    head_bytes: usize,
    /// How many bytes come before the next head.
    skip: usize,
}

impl ControlFrames {
    pub(crate) fn new(max: u64) -> Self {
        let head = [0; FRAME_HEAD];
        Self { max, count: 0, since: 0, head, head_bytes: 0, skip: PREFACE.len() }
    }

    /// Inspects the next bytes. If the limit is exceeded, returns the range of the bytes after the
    /// excess frame: they must not be passed on.
    pub(crate) fn inspect(&mut self, bytes: &[u8], now: impl Fn() -> u64) -> Option<Range<usize>> {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            self.skip -= skipped;
            at += skipped;
            if at == bytes.len() {
                return None;
            }
            if self.head_bytes == 0 && self.count > self.max {
                return Some(at..bytes.len());
            }
            let here = (FRAME_HEAD - self.head_bytes).min(bytes.len() - at);
            self.head[self.head_bytes..self.head_bytes + here]
                .copy_from_slice(&bytes[at..at + here]);
            self.head_bytes += here;
            at += here;
            if self.head_bytes == FRAME_HEAD {
                self.head_bytes = 0;
                let [high, middle, low, kind, ..] = self.head;
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if !LIMITED_BY_LIBRARY.contains(&kind) {
                    self.count(now());
                }
            }
        }
    }

    fn count(&mut self, now: u64) {
        if now.saturating_sub(self.since) >= WINDOW_MS {
            (self.since, self.count) = (now, 0);
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const DATA: [u8; 12] = [0, 0, 3, 0, 0, 0, 0, 0, 1, 6, 6, 6];

    fn sent(frames: &[&[u8]]) -> Vec<u8> {
        [PREFACE.as_slice()].into_iter().chain(frames.iter().copied()).flatten().copied().collect()
    }

    #[test]
    fn frames_beyond_the_limit_of_a_second_end_the_connection_after_a_frame() {
        let bytes = sent(&[&PING, &DATA, &PING, &PING, &DATA]);
        let end = bytes.len() - DATA.len();
        for pieces in [1, 3, 7, bytes.len()] {
            let mut frames = ControlFrames::new(2);
            let mut at = 0;
            let found = bytes.chunks(pieces).find_map(|piece| {
                let found = frames.inspect(piece, || 5).map(|range| at + range.start);
                at += piece.len();
                found
            });
            assert_eq!(found, Some(end), "{pieces}");
        }
    }

    #[test]
    fn other_frames_and_other_seconds_do_not_count() {
        let mut frames = ControlFrames::new(2);
        assert_eq!(frames.inspect(&sent(&[&DATA, &DATA, &DATA, &DATA]), || 5), None);
        for second in 1..10 {
            assert_eq!(frames.inspect(&[PING, PING].concat(), || second * 1_000), None);
        }
    }
}
