//! The content of files: files of the machine, named by the digest of what is in them.
//!
//! A file that is in the page cache is read at once, by the thread that runs the guest. Everything that
//! may wait for a disk (opening, verifying, reading what is not cached) is done on a thread that may
//! block, of which a few at a time work for this.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, IoSliceMut, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::io::{Errno, ReadWriteFlags, preadv2};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::tree::TreeFile;
use crate::{host::files::refused::PosixRefusal, metrics::PoolMetrics};

/// Files that stay open. Each is a descriptor of the process, whatever the number of guests that read
/// it. Opening another one again takes some ten microseconds.
const OPEN_FILES: usize = 256;
/// Reads that wait for the disk at the same time. Arbitrary: more than a disk does at once.
const READS: usize = 32;
/// Files whose verification is remembered. Each takes about 100 bytes.
const VERIFIED: usize = 65_536;
/// Bytes that are read and hashed at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// Says where the file with a digest is. Cheap to clone.
#[derive(Clone)]
pub struct BlobPath(Arc<PathOf>);

type PathOf = dyn Fn(&[u8; 32]) -> PathBuf + Send + Sync;

impl BlobPath {
    /// `path` is asked for the path of each file.
    pub fn new(path: impl Fn(&[u8; 32]) -> PathBuf + Send + Sync + 'static) -> Self {
        Self(Arc::new(path))
    }

    pub(crate) fn of(&self, digest: &[u8; 32]) -> PathBuf {
        (self.0)(digest)
    }
}

impl fmt::Debug for BlobPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobPath").finish_non_exhaustive()
    }
}

/// The open files of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BlobFiles {
    state: Arc<Mutex<OpenBlobs>>,
    reads: Arc<Semaphore>,
    metrics: PoolMetrics,
}

#[derive(Default)]
struct OpenBlobs {
    open: HashMap<[u8; 32], Opened>,
    /// Counts uses, so that the file that was not used for longest is closed.
    uses: u64,
    verified: HashMap<[u8; 32], FileIdentity>,
}

struct Opened {
    file: Arc<File>,
    last_use: u64,
}

/// What a file of the machine was when it was verified: all of it changes with the file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    inode: (u64, u64),
    size: u64,
    changed: (i64, i64),
    /// Whether it had the bytes that its name says.
    whole: bool,
}

impl BlobFiles {
    pub(crate) fn new(metrics: PoolMetrics) -> Self {
        Self { state: Arc::default(), reads: Arc::new(Semaphore::new(READS)), metrics }
    }

    /// Reads what is there at `offset`, if that needs no disk. `None` if it does; see [`Self::fetch`].
    pub(super) fn read_cached(
        &self,
        blob: TreeFile,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, PosixRefusal> {
        let length = length(blob, offset, buffer.len());
        if length == 0 {
            return Ok(Some(0));
        }
        let Some(file) = self.state().used(&blob.digest) else { return Ok(None) };
        let mut parts = [IoSliceMut::new(&mut buffer[..length])];
        match preadv2(&file, &mut parts, offset, ReadWriteFlags::NOWAIT) {
            // Only a file that was cut ends before its size. It is verified again when it is opened again.
            Ok(0) => {
                self.state().open.remove(&blob.digest);
                Err(PosixRefusal::Io)
            }
            Ok(read) => Ok(Some(read)),
            // Not every file system can say what is cached.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
            Err(_) => Err(PosixRefusal::Io),
        }
    }

    /// Reads at most `most` bytes at `offset`, on another thread.
    pub(super) async fn fetch(
        self,
        path: BlobPath,
        blob: TreeFile,
        offset: u64,
        most: usize,
    ) -> Result<Vec<u8>, PosixRefusal> {
        let permit = Arc::clone(&self.reads).acquire_owned().await;
        let reading = spawn_blocking(move || {
            // Held until the thread is free again, even if the guest is gone by then.
            let _permit = permit;
            let mut bytes = vec![0; length(blob, offset, most)];
            let file = self.open(&path.of(&blob.digest), blob)?;
            file.read_exact_at(&mut bytes, offset)?;
            Ok::<_, io::Error>(bytes)
        });
        match reading.await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a function's file cannot be read");
                Err(PosixRefusal::Io)
            }
            // The process is ending.
            Err(_) => Err(PosixRefusal::Io),
        }
    }

    /// Opens a file, and verifies it unless it was verified before. Blocks.
    fn open(&self, path: &Path, blob: TreeFile) -> io::Result<Arc<File>> {
        if let Some(file) = self.state().used(&blob.digest) {
            return Ok(file);
        }
        let file = File::open(path)?;
        let identity = FileIdentity::of(&file)?;
        let known = self.state().verified.get(&blob.digest).copied();
        let known = known.filter(|known| FileIdentity { whole: true, ..*known } == identity);
        let whole = match known {
            Some(known) => known.whole,
            None => {
                let whole = identity.size == blob.bytes && is_whole(&file, &blob.digest)?;
                if !whole {
                    self.metrics.files_damaged.inc();
                    tracing::error!(
                        path = %path.display(),
                        "a file of a function was damaged on disk; upload the same files again to \
                         repair it"
                    );
                }
                whole
            }
        };
        let mut state = self.state();
        if state.verified.len() >= VERIFIED {
            state.verified.clear();
        }
        state.verified.insert(blob.digest, FileIdentity { whole, ..identity });
        if !whole {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it was damaged on disk"));
        }
        Ok(state.keep(blob.digest, Arc::new(file)))
    }

    fn state(&self) -> MutexGuard<'_, OpenBlobs> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for BlobFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobFiles").finish_non_exhaustive()
    }
}

impl OpenBlobs {
    /// The file if it is open, which counts as a use.
    fn used(&mut self, digest: &[u8; 32]) -> Option<Arc<File>> {
        self.uses += 1;
        let opened = self.open.get_mut(digest)?;
        opened.last_use = self.uses;
        Some(Arc::clone(&opened.file))
    }

    /// Keeps a file open, in place of the one that was not used for longest.
    fn keep(&mut self, digest: [u8; 32], file: Arc<File>) -> Arc<File> {
        self.uses += 1;
        let opened = Opened { file: Arc::clone(&file), last_use: self.uses };
        // Another thread may have opened it, too: either will do.
        self.open.insert(digest, opened);
        if self.open.len() > OPEN_FILES {
            let oldest = self.open.iter().min_by_key(|(_, opened)| opened.last_use);
            if let Some((&oldest, _)) = oldest {
                self.open.remove(&oldest);
            }
        }
        file
    }
}

impl FileIdentity {
    fn of(file: &File) -> io::Result<Self> {
        let data = file.metadata()?;
        Ok(Self {
            inode: (data.dev(), data.ino()),
            size: data.len(),
            changed: (data.ctime(), data.ctime_nsec()),
            whole: true,
        })
    }
}

/// How much of `most` bytes is there from `offset` on.
fn length(blob: TreeFile, offset: u64, most: usize) -> usize {
    usize::try_from(blob.bytes.saturating_sub(offset)).unwrap_or(usize::MAX).min(most)
}

fn is_whole(mut file: &File, digest: &[u8; 32]) -> io::Result<bool> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hasher.finalize().as_slice() == digest),
            read => hasher.update(&block[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn hexadecimal(digest: &[u8; 32]) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    struct Blobs {
        dir: tempfile::TempDir,
        files: BlobFiles,
        metrics: PoolMetrics,
    }

    impl Blobs {
        fn new() -> Self {
            let metrics = PoolMetrics::register(&prometheus::Registry::new()).unwrap();
            let files = BlobFiles::new(metrics.clone());
            Self { dir: tempfile::tempdir().unwrap(), files, metrics }
        }

        fn path(&self) -> BlobPath {
            let dir = self.dir.path().to_owned();
            BlobPath::new(move |digest| dir.join(hexadecimal(digest)))
        }

        /// Stores `content` under the digest of `named`.
        fn store(&self, content: &[u8], named: &[u8]) -> TreeFile {
            let digest = Sha256::digest(named).into();
            let new = self.dir.path().join("new");
            fs::write(&new, content).unwrap();
            fs::rename(new, self.path().of(&digest)).unwrap();
            TreeFile { digest, bytes: named.len() as u64 }
        }

        async fn fetch(
            &self,
            blob: TreeFile,
            offset: u64,
            most: usize,
        ) -> Result<Vec<u8>, PosixRefusal> {
            self.files.clone().fetch(self.path(), blob, offset, most).await
        }
    }

    #[tokio::test]
    async fn a_file_is_fetched_once_and_then_read_without_another_thread() {
        let blobs = Blobs::new();
        let blob = blobs.store(b"content", b"content");
        let mut buffer = [0; 16];
        assert_eq!(blobs.files.read_cached(blob, 0, &mut buffer), Ok(None));
        assert_eq!(blobs.files.read_cached(blob, 7, &mut buffer), Ok(Some(0)), "the end is known");
        assert_eq!(blobs.fetch(blob, 3, 16).await.unwrap(), b"tent");
        assert_eq!(blobs.fetch(blob, 1, 2).await.unwrap(), b"on");
        assert_eq!(blobs.fetch(blob, u64::MAX, 2).await.unwrap(), b"");
        match blobs.files.read_cached(blob, 3, &mut buffer) {
            Ok(Some(read)) => assert_eq!(&buffer[..read], b"tent"),
            // This file system cannot say what is cached.
            other => assert_eq!(other, Ok(None)),
        }
    }

    /// Case Y12.
    #[tokio::test]
    async fn a_damaged_file_is_never_read_and_a_repaired_one_is() {
        let blobs = Blobs::new();
        let blob = blobs.store(b"c0ntent", b"content");
        assert_eq!(blobs.fetch(blob, 0, 9).await, Err(PosixRefusal::Io));
        assert_eq!(blobs.fetch(blob, 0, 9).await, Err(PosixRefusal::Io));
        assert_eq!(blobs.metrics.files_damaged.get(), 1, "reported once");
        blobs.store(b"cont", b"content");
        assert_eq!(blobs.fetch(blob, 0, 9).await, Err(PosixRefusal::Io), "too short");
        blobs.store(b"content", b"content");
        assert_eq!(blobs.fetch(blob, 0, 9).await.unwrap(), b"content");
        let missing = TreeFile { digest: [7; 32], bytes: 1 };
        assert_eq!(blobs.fetch(missing, 0, 9).await, Err(PosixRefusal::Io));
    }

    #[tokio::test]
    async fn a_bounded_number_of_files_stays_open() {
        let blobs = Blobs::new();
        let dir = blobs.dir.path().to_owned();
        let path = BlobPath::new(move |digest| dir.join(hexadecimal(digest)));
        for n in 0..2 * OPEN_FILES {
            let content = n.to_string();
            let digest = Sha256::digest(&content).into();
            fs::write(path.of(&digest), &content).unwrap();
            let blob = TreeFile { digest, bytes: content.len() as u64 };
            let read = blobs.files.clone().fetch(path.clone(), blob, 0, 99).await;
            assert_eq!(read.unwrap(), content.as_bytes());
        }
        assert_eq!(blobs.files.state().open.len(), OPEN_FILES);
    }
}
