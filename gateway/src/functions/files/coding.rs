//! The codings in which an archive may be sent, and how much may come of it.

use std::{
    fs::File,
    io::{self, BufReader, Read},
};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

/// The largest window of zstd, as a power of two: that which every decoder of HTTP has to accept
/// (RFC 9659). A larger one would take as much memory.
const ZSTD_WINDOW_LOG: u32 = 23;
/// Bytes that are read from the file at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// The coding of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveCoding {
    /// None.
    Identity,
    Gzip,
    Zstd,
}

impl ArchiveCoding {
    /// The bytes of a file without its coding. Fails with [`io::ErrorKind::FileTooLarge`] when there
    /// are more than `most`.
    pub(crate) fn decoder(self, file: File, most: u64) -> io::Result<impl Read> {
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let reader: Box<dyn Read> = match self {
            Self::Identity => Box::new(file),
            Self::Gzip => Box::new(MultiGzDecoder::new(file)),
            Self::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(file)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        };
        Ok(AtMost { reader, left: most })
    }
}

/// Ends with an error, not with the end of the file, after a number of bytes.
struct AtMost<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for AtMost<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let left = self.left.checked_sub(read as u64);
        self.left = left.ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        file
    }

    fn decoded(coding: ArchiveCoding, content: &[u8], most: u64) -> io::Result<Vec<u8>> {
        let mut decoded = Vec::new();
        coding.decoder(file(content), most)?.read_to_end(&mut decoded)?;
        Ok(decoded)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_coding_ends_where_its_content_does() {
        let content = b"content".repeat(100);
        let zstd = zstd::encode_all(&*content, 3).unwrap();
        for (coding, coded) in [
            (ArchiveCoding::Identity, content.clone()),
            (ArchiveCoding::Gzip, gzip(&content)),
            (ArchiveCoding::Gzip, [gzip(&content[..300]), gzip(&content[300..])].concat()),
            (ArchiveCoding::Zstd, zstd.clone()),
        ] {
            assert_eq!(decoded(coding, &coded, 700).unwrap(), content, "{coding:?}");
            let error = decoded(coding, &coded, 699).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{coding:?}");
        }
        for (coding, coded) in [(ArchiveCoding::Gzip, gzip(&content)), (ArchiveCoding::Zstd, zstd)]
        {
            assert!(decoded(coding, &coded[..coded.len() - 1], 700).is_err(), "cut: {coding:?}");
            let with_more = [&*coded, b"more"].concat();
            assert!(decoded(coding, &with_more, 9_999).is_err(), "more: {coding:?}");
            assert!(decoded(coding, b"plain", 9_999).is_err(), "{coding:?}");
        }
    }

    #[test]
    fn a_window_that_takes_much_memory_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(ZSTD_WINDOW_LOG + 1).unwrap();
        encoder.write_all(&vec![7; 40 << 20]).unwrap();
        let coded = encoder.finish().unwrap();
        assert!(decoded(ArchiveCoding::Zstd, &coded, u64::MAX).is_err());
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 20);
        let error = decoded(ArchiveCoding::Gzip, &bomb, 1 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
