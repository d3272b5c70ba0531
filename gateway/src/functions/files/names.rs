//! Which names the files of a tree may have, and how many there may be.
//!
//! A name means the same to every program: one spelling, one place, one kind.

use std::collections::{BTreeMap, HashSet};

use unicode_normalization::UnicodeNormalization as _;

/// Bytes of one name within a path, as on Linux.
const NAME_BYTES: usize = 255;

/// The limits of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TreeLimits {
    /// Files and directories.
    pub(crate) entries: usize,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Bytes of one file.
    pub(crate) file_bytes: u64,
    /// Bytes of a path.
    pub(crate) path_bytes: usize,
    /// TreeNames in a path.
    pub(crate) depth: usize,
}

/// Why a path was refused. The limits are named by their settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("a path is not UTF-8: {0}")]
    NotUtf8(String),
    #[error("{0:?} is absolute")]
    Absolute(String),
    #[error("{0:?} contains `..`")]
    Parent(String),
    #[error("{0:?} contains an empty name, or the name `.`")]
    Empty(String),
    #[error("{0:?} contains a control character")]
    Control(String),
    #[error("{0:?} is a file, and its name ends with a slash")]
    FileSlash(String),
    #[error("a name in {0:?} has more than {NAME_BYTES} bytes")]
    NameTooLong(String),
    #[error("{path:?} has more than {max} bytes (the operator's setting uploads.file_path_bytes)")]
    PathTooLong { path: String, max: usize },
    #[error("{path:?} is more than {max} names deep (the operator's setting uploads.file_depth)")]
    TooDeep { path: String, max: usize },
    #[error("there are more than {0} files and directories (the operator's setting uploads.files)")]
    TooMany(usize),
    #[error("{0:?} is there twice")]
    Twice(String),
    #[error("{0:?} is both a file and a directory")]
    FileAndDirectory(String),
    #[error("{0:?} differs from another path only by its Unicode normalisation")]
    Normalisation(String),
}

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    File,
    /// A directory that was named itself.
    Directory,
    /// A directory in which something else is.
    Implied,
}

/// The paths of a tree so far.
#[derive(Debug)]
pub(crate) struct TreeNames {
    limits: TreeLimits,
    paths: BTreeMap<String, Named>,
    /// All paths, in normal form C.
    normal: HashSet<String>,
}

impl TreeNames {
    pub(crate) fn new(limits: TreeLimits) -> Self {
        Self { limits, paths: BTreeMap::new(), normal: HashSet::new() }
    }

    /// Adds a file, and returns its path.
    pub(crate) fn file(&mut self, name: &[u8]) -> Result<String, NameError> {
        let path = self.checked(name)?;
        if path.ends_with('/') || matches!(path, "" | ".") {
            return Err(NameError::FileSlash(shown(path)));
        }
        self.add_parents(path)?;
        match self.paths.get(path) {
            None => self.add(path, Named::File)?,
            Some(Named::File) => return Err(NameError::Twice(shown(path))),
            Some(Named::Directory | Named::Implied) => {
                return Err(NameError::FileAndDirectory(shown(path)));
            }
        }
        Ok(path.to_owned())
    }

    /// Adds a directory.
    pub(crate) fn directory(&mut self, name: &[u8]) -> Result<(), NameError> {
        let path = self.checked(name)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        // The tree itself.
        if path.is_empty() || path == "." {
            return Ok(());
        }
        self.add_parents(path)?;
        match self.paths.get(path) {
            None => self.add(path, Named::Directory),
            Some(Named::Implied) => {
                self.paths.insert(path.to_owned(), Named::Directory);
                Ok(())
            }
            Some(Named::Directory) => Err(NameError::Twice(shown(path))),
            Some(Named::File) => Err(NameError::FileAndDirectory(shown(path))),
        }
    }

    /// The directories in which nothing is.
    pub(crate) fn empty_directories(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().filter(|(_, named)| **named == Named::Directory).filter_map(
            |(path, _)| {
                let inside = format!("{path}/");
                let next = self.paths.range(inside.clone()..).next();
                let is_empty = next.is_none_or(|(next, _)| !next.starts_with(&inside));
                is_empty.then_some(&**path)
            },
        )
    }

    /// Checks a path by itself. Returns it without the `./` that some tools put before every path, and
    /// with the slash that ends the names of directories.
    fn checked<'a>(&self, name: &'a [u8]) -> Result<&'a str, NameError> {
        let path = std::str::from_utf8(name)
            .map_err(|_| NameError::NotUtf8(shown(&String::from_utf8_lossy(name))))?;
        let relative = path.strip_prefix("./").unwrap_or(path);
        let names = || relative.strip_suffix('/').unwrap_or(relative).split('/');
        let is_root = matches!(relative, "" | ".") && !path.is_empty();
        if relative.len() > self.limits.path_bytes {
            let max = self.limits.path_bytes;
            Err(NameError::PathTooLong { path: shown(path), max })
        } else if path.starts_with('/') || relative.starts_with('/') {
            Err(NameError::Absolute(shown(path)))
        } else if names().any(|name| name == "..") {
            Err(NameError::Parent(shown(path)))
        } else if path.contains(char::is_control) {
            Err(NameError::Control(shown(path)))
        } else if is_root {
            Ok(relative)
        } else if names().any(|name| matches!(name, "" | ".")) {
            Err(NameError::Empty(shown(path)))
        } else if names().any(|name| name.len() > NAME_BYTES) {
            Err(NameError::NameTooLong(shown(path)))
        } else if names().count() > self.limits.depth {
            Err(NameError::TooDeep { path: shown(path), max: self.limits.depth })
        } else {
            Ok(relative)
        }
    }

    fn add_parents(&mut self, path: &str) -> Result<(), NameError> {
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            match self.paths.get(parent) {
                None => self.add(parent, Named::Implied)?,
                Some(Named::File) => return Err(NameError::FileAndDirectory(shown(parent))),
                Some(Named::Directory | Named::Implied) => {}
            }
        }
        Ok(())
    }

    /// Adds a path that is not there.
    fn add(&mut self, path: &str, named: Named) -> Result<(), NameError> {
        if self.paths.len() >= self.limits.entries {
            return Err(NameError::TooMany(self.limits.entries));
        }
        if !self.normal.insert(path.nfc().collect()) {
            return Err(NameError::Normalisation(shown(path)));
        }
        self.paths.insert(path.to_owned(), named);
        Ok(())
    }
}

/// As much of a path as fits into a message.
fn shown(path: &str) -> String {
    path.chars().take(128).collect()
}
