//! The list of a tree of files: its paths, each with the digest of the file.
//!
//! A tree has one list, of which the same bytes are made each time, so that their digest is that of the
//! tree: the files in the order of their paths, and the directories in which nothing is. Other
//! directories are there because something is in them.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

/// The first line. Another form of lists will have another number.
const FIRST_LINE: &str = "mayfly-files 1";

/// The paths of a tree, and what they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileList {
    entries: BTreeMap<String, ListedEntry>,
}

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedEntry {
    /// A file.
    File {
        /// The SHA-256 of its bytes.
        digest: [u8; 32],
        /// Its size.
        bytes: u64,
    },
    /// A directory in which nothing is.
    Directory,
}

/// A text that is not the list of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} of the list of files is not one of a list")]
pub struct NotAList(pub usize);

impl FileList {
    /// The list of these paths. A path that cannot be in a list makes a list that is not read back:
    /// see [`FileList::parse`].
    pub fn new(entries: BTreeMap<String, ListedEntry>) -> Self {
        Self { entries }
    }

    /// The paths in the order of their bytes.
    pub fn entries(&self) -> impl Iterator<Item = (&str, ListedEntry)> {
        self.entries.iter().map(|(path, entry)| (&**path, *entry))
    }

    /// The number of files and their bytes.
    pub fn totals(&self) -> (u64, u64) {
        self.entries.values().fold((0, 0), |(files, all), entry| match entry {
            ListedEntry::File { bytes, .. } => (files + 1, all + bytes),
            ListedEntry::Directory => (files, all),
        })
    }

    /// Reads a list.
    ///
    /// # Errors
    ///
    /// [`NotAList`] for every text of which [`FileList`] would not display exactly the same one.
    pub fn parse(text: &str) -> Result<Self, NotAList> {
        let mut entries: BTreeMap<String, ListedEntry> = BTreeMap::new();
        let lines = text.strip_suffix('\n').ok_or(NotAList(1))?;
        for (number, line) in lines.split('\n').enumerate() {
            let wrong = NotAList(number + 1);
            if number == 0 {
                if line != FIRST_LINE {
                    return Err(wrong);
                }
                continue;
            }
            let (path, entry) = listed(line).filter(|(path, _)| is_path(path)).ok_or(wrong)?;
            let is_next = entries.last_key_value().is_none_or(|(last, _)| **last < *path);
            let is_in_nothing = parents(path).any(|parent| entries.contains_key(parent));
            if !is_next || is_in_nothing {
                return Err(wrong);
            }
            entries.insert(path.to_owned(), entry);
        }
        Ok(Self { entries })
    }
}

impl fmt::Display for FileList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FIRST_LINE)?;
        for (path, entry) in &self.entries {
            match entry {
                ListedEntry::File { digest, bytes } => {
                    f.write_str("\nfile ")?;
                    digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                    write!(f, " {bytes} {path}")?;
                }
                ListedEntry::Directory => write!(f, "\ndirectory {path}")?,
            }
        }
        f.write_char('\n')
    }
}

/// The path of a line, and what it stands for.
fn listed(line: &str) -> Option<(&str, ListedEntry)> {
    if let Some(path) = line.strip_prefix("directory ") {
        return Some((path, ListedEntry::Directory));
    }
    let (digest, rest) = line.strip_prefix("file ")?.split_once(' ')?;
    let (size, path) = rest.split_once(' ')?;
    let bytes = size.parse().ok().filter(|bytes: &u64| bytes.to_string() == size)?;
    Some((path, ListedEntry::File { digest: sha256(digest)?, bytes }))
}

/// Lower case only, so that a digest has one spelling.
fn sha256(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut digest = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(digest)
}

/// Whether the names of a path are names, and each line of a list holds one path.
fn is_path(path: &str) -> bool {
    path.split('/').all(|name| !matches!(name, "" | "." | "..")) && !path.contains(char::is_control)
}

/// The directories on the way to a path.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(slash, _)| &path[..slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aa00000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn a_list_is_read_back_and_has_one_form() {
        let digest = std::array::from_fn(|n| if n == 0 { 0xaa } else { 0 });
        let entries = BTreeMap::from([
            ("b/c d".to_owned(), ListedEntry::File { digest, bytes: 12 }),
            ("a".to_owned(), ListedEntry::Directory),
            ("b.txt".to_owned(), ListedEntry::File { digest, bytes: 0 }),
        ]);
        let list = FileList::new(entries);
        let text = list.to_string();
        let expected =
            format!("mayfly-files 1\ndirectory a\nfile {A} 0 b.txt\nfile {A} 12 b/c d\n");
        assert_eq!(text, expected);
        assert_eq!(FileList::parse(&text), Ok(list.clone()));
        assert_eq!(list.totals(), (2, 12));
        assert_eq!(FileList::parse("mayfly-files 1\n"), Ok(FileList::default()));
    }

    #[test]
    fn every_other_text_is_refused() {
        let file = |path: &str| format!("file {A} 1 {path}");
        for (lines, wrong) in [
            (vec!["mayfly-files 2".to_owned()], 1),
            (vec![file("a")], 2),
            (vec![format!("file {} 1 a", A.to_uppercase())], 2),
            (vec![format!("file {} 1 a", &A[1..])], 2),
            (vec![format!("file {A} 01 a")], 2),
            (vec![format!("file {A} -1 a")], 2),
            (vec![format!("file {A} 1")], 2),
            (vec!["link a".to_owned()], 2),
            (vec![String::new()], 2),
            (vec![file("")], 2),
            (vec![file("/a")], 2),
            (vec![file("a/")], 2),
            (vec![file("a/../b")], 2),
            (vec![file("./a")], 2),
            (vec![file("a\u{7f}")], 2),
            (vec![file("b"), file("a")], 3),
            (vec![file("a"), file("a")], 3),
            (vec![file("a"), file("a.b"), file("a/b")], 4),
            (vec!["directory a".to_owned(), file("a/b")], 3),
        ] {
            let first = if wrong == 1 || lines == [file("a")] { "" } else { "mayfly-files 1\n" };
            let text = format!("{first}{}\n", lines.join("\n"));
            let line = if first.is_empty() { 1 } else { wrong };
            assert_eq!(FileList::parse(&text), Err(NotAList(line)), "{text}");
        }
        assert_eq!(FileList::parse("mayfly-files 1"), Err(NotAList(1)));
        assert_eq!(FileList::parse(""), Err(NotAList(1)));
    }
}
