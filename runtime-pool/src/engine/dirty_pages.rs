//! Closes small gaps between the dirty pages of a memory, so that resetting it stays cheap.
//!
//! When an instance ends, Wasmtime asks the kernel for the dirty pages of its memory and copies
//! them back from the module's image. The kernel answers with ranges of pages, and Wasmtime asks
//! for at most 32 of them; it unmaps the memory behind the 32nd range. Unmapping interrupts every
//! other thread of the process, and so does each page fault of the next guest there. A JavaScript
//! engine dirties pages all over its memory; without this module it costs four times as much on two
//! threads as on one.
//!
//! Wasmtime has no setting for this. But two ranges become one if the pages between them are dirty,
//! too. So a thread looks for memories with many dirty ranges at intervals, and makes the smallest
//! gaps in them writable, which changes no content. A slot keeps its pages, so its gaps stay
//! closed.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    ptr, thread,
    time::Duration,
};

use rustix::{
    mm::{Advice, madvise},
    param::page_size,
};
use wasmtime::EngineWeak;

use crate::error::StartError;

/// Time between two rounds. The gaps of a slot are closed in two or three rounds.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest time between two rounds, if they find no gap to close.
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// Page faults within a pause below which a round is skipped: unmapping causes dozens of them with
/// each invocation, and instances that are reset by copying cause none.
const FAULTS: u64 = 500;
/// Dirty ranges for which Wasmtime asks.
const RANGES_MAX: usize = 32;
/// Dirty ranges to leave. Fewer than the maximum, because not every request writes the same pages.
const RANGES_LEFT: usize = 24;
/// Pages of a memory that one round may make dirty: each invocation copies them from then on.
const PAGES_ADDED_MAX: usize = 64;
/// How the names of native code's files end. They hold the images of memories.
const CODE_SUFFIX: &str = ".cwasm";

/// Starts a thread that closes gaps until the last handle to the engine is dropped.
pub(crate) fn close_gaps_regularly(engine: EngineWeak) -> Result<(), StartError> {
    let failed = |cause: io::Error| StartError {
        what: "starting the thread for dirty pages",
        cause: cause.into(),
    };
    let pages = File::open("/proc/self/pagemap").map_err(failed)?;
    thread::Builder::new()
        .name("mayfly-pages".into())
        .spawn(move || {
            let (mut pause, mut faults) = (PAUSE, 0);
            while engine.upgrade().is_some() {
                thread::sleep(pause);
                // If the counter cannot be read, resets stay slow, but nothing fails.
                let now = page_faults().unwrap_or(faults);
                if now - faults >= FAULTS {
                    let closed = round(&pages).unwrap_or(0);
                    pause = if closed > 0 { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
                }
                faults = now;
            }
        })
        .map_err(failed)?;
    Ok(())
}

/// Page faults of this process so far that were served without reading from a disk.
fn page_faults() -> Option<u64> {
    // The second field is the program's name in parentheses, and the tenth is this counter.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(7)?.parse().ok()
}

/// Goes through all memories once, and returns the number of closed gaps.
fn round(pages: &File) -> io::Result<usize> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut closed = 0;
    for memory in memories(&maps) {
        // The memory may have been unmapped meanwhile.
        closed += close_gaps(pages, &memory).unwrap_or(0);
    }
    Ok(closed)
}

fn close_gaps(pages: &File, memory: &Range<usize>) -> io::Result<usize> {
    let gaps = gaps(&ranges(&dirty(pages, memory)?));
    for gap in &gaps {
        let (start, len) = (memory.start + gap.start * page_size(), gap.len() * page_size());
        #[expect(unsafe_code, reason = "no safe function makes pages writable early")]
        // SAFETY: this prepares the pages as a write to them would, but does not write. If another
        // mapping has taken their place meanwhile, its content does not change either.
        unsafe {
            madvise(ptr::with_exposed_provenance_mut(start), len, Advice::LinuxPopulateWrite)?;
        }
    }
    Ok(gaps.len())
}

/// The accessible parts of memories that have an image, from a list of mappings.
fn memories(maps: &str) -> impl Iterator<Item = Range<usize>> {
    let mut mappings = maps.lines().filter_map(mapping).peekable();
    std::iter::from_fn(move || {
        loop {
            let mut memory = mappings.next()?;
            while let Some(next) = mappings.next_if(|next| {
                memory.writable && next.writable && next.range.start == memory.range.end
            }) {
                memory.range.end = next.range.end;
                memory.image |= next.image;
            }
            if memory.writable && memory.image {
                return Some(memory.range);
            }
        }
    })
}

struct Mapping {
    range: Range<usize>,
    writable: bool,
    image: bool,
}

/// A line such as `7f00-7f10 rw-p 00001000 fe:00 4711   /a/file`.
fn mapping(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |digits| usize::from_str_radix(digits, 16).ok();
    Some(Mapping {
        range: address(start)?..address(end)?,
        writable: rest.starts_with("rw-p"),
        image: rest.ends_with(CODE_SUFFIX),
    })
}

/// Which pages of a memory are dirty: those that are present and do not belong to a file.
fn dirty(pages: &File, memory: &Range<usize>) -> io::Result<Vec<bool>> {
    const ENTRY: usize = size_of::<u64>();
    let mut entries = vec![0; memory.len() / page_size() * ENTRY];
    pages.read_exact_at(&mut entries, (memory.start / page_size() * ENTRY) as u64)?;
    let (entries, _) = entries.as_chunks::<ENTRY>();
    Ok(entries
        .iter()
        .map(|&entry| {
            let entry = u64::from_ne_bytes(entry);
            let (present, of_file) = (entry >> 63 == 1, entry >> 61 & 1 == 1);
            present && !of_file
        })
        .collect())
}

/// The ranges of dirty pages, as indices.
fn ranges(dirty: &[bool]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for page in (0..dirty.len()).filter(|&page| dirty[page]) {
        match ranges.last_mut() {
            Some(last) if last.end == page => last.end += 1,
            _ => ranges.push(page..page + 1),
        }
    }
    ranges
}

/// The gaps to close, smallest first; none if there are few ranges.
fn gaps(ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    // After a reset that reached the maximum, a memory has exactly that many dirty ranges.
    if ranges.len() < RANGES_MAX {
        return Vec::new();
    }
    let mut gaps: Vec<_> = ranges.windows(2).map(|pair| pair[0].end..pair[1].start).collect();
    gaps.sort_by_key(ExactSizeIterator::len);
    let mut left = PAGES_ADDED_MAX;
    gaps.truncate(ranges.len() - RANGES_LEFT);
    gaps.retain(|gap| {
        let fits = gap.len() <= left;
        left -= if fits { gap.len() } else { 0 };
        fits
    });
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_is_found_by_its_image() {
        let maps = "\
            1000-3000 rw-p 00000000 00:00 0 \n\
            3000-5000 rw-p 00005000 fe:00 7      /data/code/a.cwasm\n\
            5000-6000 rw-p 00000000 00:00 0 \n\
            6000-9000 ---p 00000000 00:00 0 \n\
            9000-a000 rw-p 00000000 00:00 0      [heap]\n\
            b000-c000 r-xp 00000000 fe:00 7      /data/code/a.cwasm\n\
            d000-e000 rw-p 00001000 fe:00 8      /data/code/b.cwasm\n";
        assert_eq!(memories(maps).collect::<Vec<_>>(), [0x1000..0x6000, 0xd000..0xe000]);
    }

    #[test]
    fn the_smallest_gaps_are_closed_until_there_is_room() {
        // Gaps of one page and of three in turn.
        let ranges: Vec<_> =
            (0..20).flat_map(|n| [6 * n..6 * n + 1, 6 * n + 2..6 * n + 3]).collect();
        let gaps = gaps(&ranges);
        assert_eq!(gaps.len(), 40 - RANGES_LEFT);
        assert!(gaps.iter().all(|gap| gap.len() == 1), "{gaps:?}");
    }

    #[test]
    fn few_pieces_are_left_alone_and_wide_gaps_stay_open() {
        assert!(
            gaps(&(0..RANGES_MAX - 1).map(|n| 2 * n..2 * n + 1).collect::<Vec<_>>()).is_empty()
        );
        assert!(
            gaps(&(0..RANGES_MAX).map(|n| 100 * n..100 * n + 1).collect::<Vec<_>>()).is_empty()
        );
    }

    #[test]
    fn memory_in_many_pieces_is_mended_and_keeps_its_content() {
        const PAGES: usize = 200;
        let size = page_size();
        let pages = File::open("/proc/self/pagemap").unwrap();
        // Of the second half: in the first may be what was left of something else.
        let half_of = |memory: &[u8]| {
            let first = PAGES * size + memory[PAGES * size..].as_ptr().align_offset(size);
            let start = memory.as_ptr().expose_provenance() + first;
            (first, start..start + (PAGES - 1) * size)
        };
        // The allocator may return memory that another test has written to and freed. Such memory
        // stays allocated here until the allocator returns other memory.
        let mut used = Vec::new();
        let mut memory = loop {
            let memory = vec![0_u8; 2 * PAGES * size];
            if ranges(&dirty(&pages, &half_of(&memory).1).unwrap()).is_empty() {
                break memory;
            }
            used.push(memory);
            assert!(used.len() < 1_000, "no memory is fresh");
        };
        let (first, range) = half_of(&memory);
        for page in (0..PAGES / 2).step_by(2) {
            memory[first + page * size] = 7;
        }
        let count = || ranges(&dirty(&pages, &range).unwrap()).len();
        assert!(count() >= RANGES_MAX, "{}", count());

        assert!(close_gaps(&pages, &range).unwrap() > 0);

        assert!(count() < RANGES_MAX, "{}", count());
        for page in 0..PAGES / 2 {
            assert_eq!(memory[first + page * size], if page % 2 == 0 { 7 } else { 0 });
        }
    }
}
