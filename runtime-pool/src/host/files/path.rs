//! Paths inside the scratch directory.

use crate::host::files::refused::PosixRefusal;

/// Bytes of one name, and of one path: those of Linux.
const NAME_BYTES: usize = 255;
pub(super) const PATH_BYTES: usize = 4096;

/// Checks what can be wrong with a path before it is followed. An absolute path would lead out of the
/// directory that it is relative to.
pub(super) fn check(path: &str) -> Result<(), PosixRefusal> {
    if path.len() > PATH_BYTES {
        Err(PosixRefusal::NameTooLong)
    } else if path.is_empty() {
        Err(PosixRefusal::NoEntry)
    } else if path.starts_with('/') {
        Err(PosixRefusal::NotPermitted)
    } else if path.contains('\0') {
        Err(PosixRefusal::Invalid)
    } else if path.split('/').any(|name| name.len() > NAME_BYTES) {
        Err(PosixRefusal::NameTooLong)
    } else {
        Ok(())
    }
}

/// The names of a path, without the empty ones between two slashes.
pub(super) fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_and_not_too_long() {
        let name = "n".repeat(NAME_BYTES);
        let long = "d/".repeat(PATH_BYTES / 2);
        for (path, expected) in [
            ("a", Ok(())),
            ("a//b/", Ok(())),
            (&name, Ok(())),
            (&long, Ok(())),
            (&format!("{name}n"), Err(PosixRefusal::NameTooLong)),
            (&format!("{long}d"), Err(PosixRefusal::NameTooLong)),
            ("", Err(PosixRefusal::NoEntry)),
            ("/a", Err(PosixRefusal::NotPermitted)),
            ("a\0b", Err(PosixRefusal::Invalid)),
        ] {
            assert_eq!(check(path), expected, "{path}");
        }
        assert_eq!(names("a//b/./").collect::<Vec<_>>(), ["a", "b", "."]);
    }
}
