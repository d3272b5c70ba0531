//! Where guests see their files.

/// Bytes of the path. Arbitrary, large enough.
const MOUNT_BYTES: usize = 255;
/// Where the scratch directory is, whether a function has one or not.
const SCRATCH: &str = "/tmp";

/// Checks the path of the directory at which guests see a tree. An error says what is wrong.
pub(crate) fn check_mount(at: &str) -> Result<(), String> {
    let names = || at.split('/').skip(1);
    let wrong = if at == "/" {
        return Ok(());
    } else if at.len() > MOUNT_BYTES {
        format!("has {} bytes, at most {MOUNT_BYTES} are allowed", at.len())
    } else if !at.starts_with('/') || names().any(|name| matches!(name, "" | "." | "..")) {
        "must be an absolute path of plain names, such as `/srv/site`".to_owned()
    } else if at.contains(char::is_control) {
        "cannot contain control characters".to_owned()
    } else if at == SCRATCH || at.starts_with("/tmp/") {
        "cannot be in `/tmp`, which is the scratch directory".to_owned()
    } else {
        return Ok(());
    };
    Err(format!("files: `at` {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_an_absolute_path_outside_of_the_scratch_directory() {
        for at in ["/", "/srv", "/srv/site", "/tmpfiles", "/...", "/a b", "/ä"] {
            assert_eq!(check_mount(at), Ok(()), "{at}");
        }
        let long = format!("/{}", "a".repeat(MOUNT_BYTES));
        for at in
            ["", "srv", "/srv/", "//", "/a//b", "/a/../b", "/.", "/tmp", "/tmp/a", "/a\nb", &long]
        {
            assert!(check_mount(at).is_err(), "{at}");
        }
    }
}
