//! How much native code may be on the disk? What was not used for longest leaves first.
//!
//! The seal's time of change says when native code was last used. Native code is a cache: whoever
//! needs what has left compiles it again, and a mapping of it stays.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

use crate::code::builds::{CODE, SEAL};

/// Native code on the disk.
struct Stored {
    code: PathBuf,
    bytes: u64,
    /// When it was last used, in seconds and nanoseconds.
    used: (i64, i64),
}

/// Notes that native code is used, by the path of its seal.
pub(super) fn note_use(seal: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW as _ };
    let times = Timestamps { last_access: now, last_modification: now };
    // Without this it only leaves earlier.
    let _ = fs::File::open(seal).and_then(|seal| Ok(futimens(seal, &times)?));
}

/// Removes native code below `dirs` until all of it together has at most `most` bytes. Keeps the file
/// `kept`. Returns how many were removed.
///
/// Blocks: asks for the size of every file.
pub(super) fn trim(dirs: &[PathBuf], most: u64, kept: &Path) -> u64 {
    let mut stored = Vec::new();
    for dir in dirs {
        // A directory that is missing holds nothing.
        let _ = collect(dir, &mut stored);
    }
    let mut bytes: u64 = stored.iter().map(|one| one.bytes).sum();
    stored.retain(|one| one.code != kept);
    stored.sort_unstable_by_key(|one| one.used);
    let mut removed = 0;
    for one in stored {
        if bytes <= most {
            break;
        }
        // The seal goes first: without it the code counts as missing.
        let _ = fs::remove_file(one.code.with_extension(SEAL));
        if fs::remove_file(&one.code).is_ok() {
            bytes -= one.bytes;
            removed += 1;
        }
    }
    removed
}

fn collect(dir: &Path, stored: &mut Vec<Stored>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            // The snapshots of one artifact.
            let _ = collect(&path, stored);
        } else if path.extension().is_some_and(|extension| extension == CODE) {
            let Ok(code) = fs::metadata(&path) else { continue };
            let used = fs::metadata(path.with_extension(SEAL)).unwrap_or_else(|_| code.clone());
            let used = (used.mtime(), used.mtime_nsec());
            stored.push(Stored { code: path, bytes: code.len(), used });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path, name: &str, bytes: usize) -> PathBuf {
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        let code = dir.join(name).with_extension(CODE);
        fs::write(&code, vec![0; bytes]).unwrap();
        fs::write(code.with_extension(SEAL), "{}").unwrap();
        // Files that are made within one tick of the kernel's clock have the same time.
        std::thread::sleep(std::time::Duration::from_millis(20));
        code
    }

    #[test]
    fn what_was_not_used_for_longest_leaves_and_the_newest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["old/a", "new/b", "new/c.snapshots/d", "new/e"];
        let [a, b, d, e] = names.map(|name| store(dir.path(), name, 100));
        let dirs = ["new", "old", "missing"].map(|build| dir.path().join(build));
        assert_eq!(trim(&dirs, 400, &e), 0);
        note_use(&a.with_extension(SEAL));
        assert_eq!(trim(&dirs, 300, &e), 1);
        assert!(!b.exists() && !b.with_extension(SEAL).exists());
        assert!(a.exists() && d.exists() && e.exists());
        assert_eq!(trim(&dirs, 0, &e), 2);
        assert!(e.exists(), "what was just made is kept, whatever its size");
    }
}
