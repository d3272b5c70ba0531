//! An archive of files: whatever is accepted is a list that is read back.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;

#[path = "../../src/functions/files/archive.rs"]
mod archive;
#[path = "../../../runtime-pool/src/host/files/mounted/list.rs"]
#[allow(dead_code, reason = "only the form of a list is used here")]
mod list;
#[path = "../../src/functions/files/names.rs"]
#[allow(dead_code, reason = "limits of bytes are not of names")]
mod names;

use archive::{Archive, ArchiveMember};
use list::{FileList, ListedEntry};
use names::{TreeLimits, TreeNames};

const LIMITS: TreeLimits =
    TreeLimits { entries: 100, bytes: 0, file_bytes: 0, path_bytes: 300, depth: 8 };

fuzz_target!(|data: &[u8]| {
    let _ = read(data);
});

/// Reads an archive to its end. `None` if it is refused.
fn read(data: &[u8]) -> Option<()> {
    let (mut archive, mut names) = (Archive::new(data), TreeNames::new(LIMITS));
    let (mut entries, mut block) = (BTreeMap::new(), [0; 700]);
    while let Some(member) = archive.next().ok()? {
        match member {
            ArchiveMember::Directory(name) => names.directory(&name).ok()?,
            ArchiveMember::File(name) => {
                let path = names.file(&name).ok()?;
                let mut bytes = 0;
                loop {
                    match archive.read(&mut block).ok()? {
                        0 => break,
                        read => bytes += read as u64,
                    }
                }
                assert!(bytes <= data.len() as u64);
                let before = entries.insert(path, ListedEntry::File { digest: [7; 32], bytes });
                assert_eq!(before, None);
            }
        }
    }
    for directory in names.empty_directories() {
        let before = entries.insert(directory.to_owned(), ListedEntry::Directory);
        assert_eq!(before, None);
    }
    let list = FileList::new(entries);
    assert_eq!(FileList::parse(&list.to_string()), Ok(list));
    Some(())
}
