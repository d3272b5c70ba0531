//! The content of one file: pages, of which those that were never written are not there.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::host::files::refused::PosixRefusal;

/// The unit in which content takes memory.
pub(super) const PAGE_BYTES: usize = 4 << 10;

/// The content of a file.
#[derive(Default)]
pub(super) struct FileContent {
    size: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl FileContent {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.pages.len() * PAGE_BYTES
    }

    /// Copies what is there from `offset` on. Returns how much that is.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let length = clamped(self.size.saturating_sub(offset), buffer.len());
        let mut done = 0;
        while done < length {
            let (page, within) = place(offset + done as u64);
            let part = (PAGE_BYTES - within).min(length - done);
            let into = &mut buffer[done..done + part];
            match self.pages.get(&page) {
                Some(bytes) => into.copy_from_slice(&bytes[within..within + part]),
                None => into.fill(0),
            }
            done += part;
        }
        length
    }

    /// Writes at `offset`. Returns how much of `data` was written: less than all of it if the file
    /// reaches `size_max`, or if `take` refuses the memory of another page.
    pub(super) fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        size_max: u64,
        mut take: impl FnMut(usize) -> bool,
    ) -> Result<usize, PosixRefusal> {
        if data.is_empty() {
            return Ok(0);
        }
        let length = clamped(size_max.saturating_sub(offset), data.len());
        if length == 0 {
            return Err(PosixRefusal::FileTooLarge);
        }
        let mut done = 0;
        while done < length {
            let (page, within) = place(offset + done as u64);
            let part = (PAGE_BYTES - within).min(length - done);
            let bytes = match self.pages.entry(page) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(_) if !take(PAGE_BYTES) => break,
                Entry::Vacant(page) => page.insert(vec![0; PAGE_BYTES].into_boxed_slice()),
            };
            bytes[within..within + part].copy_from_slice(&data[done..done + part]);
            done += part;
        }
        if done == 0 {
            return Err(PosixRefusal::NoSpace);
        }
        self.size = self.size.max(offset + done as u64);
        Ok(done)
    }

    /// How much can be written at `offset` while pages of `free` bytes can be added.
    pub(super) fn room(&self, offset: u64, free: usize) -> usize {
        let (page, within) = place(offset);
        let begun = if self.pages.contains_key(&page) { PAGE_BYTES } else { 0 };
        (begun + free / PAGE_BYTES * PAGE_BYTES).saturating_sub(within)
    }

    /// Cuts the file, or fills it with zeros. Returns the memory that became free.
    pub(super) fn set_size(&mut self, size: u64, size_max: u64) -> Result<usize, PosixRefusal> {
        if size > size_max {
            return Err(PosixRefusal::FileTooLarge);
        }
        let before = self.bytes();
        if size < self.size {
            let (page, within) = place(size);
            let mut cut = self.pages.split_off(&page);
            // The page in which the file ends stays, if anything of it does.
            if within > 0
                && let Some(mut bytes) = cut.remove(&page)
            {
                bytes[within..].fill(0);
                self.pages.insert(page, bytes);
            }
        }
        self.size = size;
        Ok(before - self.bytes())
    }
}

/// The page of an offset, and the place in it.
fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize)
}

fn clamped(bytes: u64, most: usize) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_BYTES as u64;

    fn read(content: &FileContent, offset: u64, most: usize) -> Vec<u8> {
        let mut buffer = vec![0xee; most];
        let length = content.read(offset, &mut buffer);
        buffer.truncate(length);
        buffer
    }

    #[test]
    fn a_hole_reads_as_zeros_and_takes_no_memory() {
        let mut content = FileContent::default();
        assert_eq!(content.write(100 * PAGE - 1, b"ab", u64::MAX, |_| true), Ok(2));
        assert_eq!((content.size(), content.bytes()), (100 * PAGE + 1, 2 * PAGE_BYTES));
        assert_eq!(read(&content, 50 * PAGE, 3), [0; 3]);
        assert_eq!(read(&content, 100 * PAGE - 2, 10), [0, b'a', b'b']);
        assert!(read(&content, u64::MAX, 10).is_empty());
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut content = FileContent::default();
        content.write(0, &[7; 3 * PAGE_BYTES], u64::MAX, |_| true).unwrap();
        assert_eq!(content.set_size(PAGE + 2, u64::MAX), Ok(PAGE_BYTES));
        assert_eq!(content.set_size(2 * PAGE, u64::MAX), Ok(0));
        assert_eq!(read(&content, PAGE, 4), [7, 7, 0, 0]);
        assert_eq!(content.set_size(0, u64::MAX), Ok(2 * PAGE_BYTES));
        assert_eq!(content.bytes(), 0);
    }

    #[test]
    fn a_write_ends_where_memory_or_the_largest_size_ends() {
        let mut content = FileContent::default();
        let mut pages = 2;
        let mut take = |bytes| {
            assert_eq!(bytes, PAGE_BYTES);
            pages -= 1;
            pages >= 0
        };
        let data = [1; 4 * PAGE_BYTES];
        assert_eq!(content.write(1, &data, u64::MAX, &mut take), Ok(2 * PAGE_BYTES - 1));
        assert_eq!(content.write(2 * PAGE, &data, u64::MAX, &mut take), Err(PosixRefusal::NoSpace));
        assert_eq!(content.size(), 2 * PAGE);
        assert_eq!(content.room(2 * PAGE - 5, 0), 5);
        assert_eq!(content.room(2 * PAGE - 5, 3 * PAGE_BYTES - 1), 5 + 2 * PAGE_BYTES);
        assert_eq!(content.room(2 * PAGE + 5, PAGE_BYTES), PAGE_BYTES - 5);
        assert_eq!(content.write(PAGE, &data, PAGE + 5, |_| true), Ok(5));
        for offset in [PAGE + 5, 1 << 40, u64::MAX] {
            let written = content.write(offset, &data, PAGE + 5, |_| true);
            assert_eq!(written, Err(PosixRefusal::FileTooLarge), "{offset}");
        }
        assert_eq!(content.set_size(PAGE + 6, PAGE + 5), Err(PosixRefusal::FileTooLarge));
    }
}
