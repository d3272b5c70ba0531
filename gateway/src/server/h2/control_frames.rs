//! Counts the frames of an HTTP/2 connection that ask for work and carry nothing.
//!
//! The protocol library ends connections that flood it with resets, empty data or headers without
//! end, but answers every PING and takes every SETTINGS. Those are counted here, and with them
//! PRIORITY and all that nobody knows.

use std::ops::Range;

/// What every client sends first.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// Types of frames with a place in every exchange: DATA, HEADERS, RST_STREAM, WINDOW_UPDATE and
/// CONTINUATION. The library bounds those.
const USEFUL: [u8; 5] = [0x0, 0x1, 0x3, 0x8, 0x9];
const WINDOW_MS: u64 = 1_000;

/// Frames that make the library say ENHANCE_YOUR_CALM: a head that goes on and on without saying
/// anything. It stands where a client's next frame would.
pub(crate) const CALM: [u8; FRAME_HEAD * (1 + EMPTY)] = {
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
/// More than the library takes.
const EMPTY: usize = 32;

/// Knows where in its frames a connection is.
#[derive(Debug)]
pub(crate) struct ControlFrames {
    /// How many there may be in a second.
    max: u64,
    count: u64,
    /// When counting began, in milliseconds of the connection's time.
    since: u64,
    head: [u8; FRAME_HEAD],
    /// Bytes of the head that have arrived.
    head_bytes: usize,
    /// Bytes that come before the next head.
    skip: usize,
}

impl ControlFrames {
    pub(crate) fn new(max: u64) -> Self {
        let head = [0; FRAME_HEAD];
        Self { max, count: 0, since: 0, head, head_bytes: 0, skip: PREFACE.len() }
    }

    /// Looks at the next bytes. If there are too many frames, what follows a frame is no longer
    /// to be passed on: those bytes, if that place is among these.
    pub(crate) fn look(&mut self, bytes: &[u8], now: impl Fn() -> u64) -> Option<Range<usize>> {
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
                if !USEFUL.contains(&kind) {
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
    fn more_than_enough_in_one_second_is_cut_after_a_frame() {
        let bytes = sent(&[&PING, &DATA, &PING, &PING, &DATA]);
        let cut = bytes.len() - DATA.len();
        for pieces in [1, 3, 7, bytes.len()] {
            let mut frames = ControlFrames::new(2);
            let mut at = 0;
            let found = bytes.chunks(pieces).find_map(|piece| {
                let found = frames.look(piece, || 5).map(|range| at + range.start);
                at += piece.len();
                found
            });
            assert_eq!(found, Some(cut), "{pieces}");
        }
    }

    #[test]
    fn frames_that_carry_something_and_other_seconds_do_not_count() {
        let mut frames = ControlFrames::new(2);
        assert_eq!(frames.look(&sent(&[&DATA, &DATA, &DATA, &DATA]), || 5), None);
        for second in 1..10 {
            assert_eq!(frames.look(&[PING, PING].concat(), || second * 1_000), None);
        }
    }
}
