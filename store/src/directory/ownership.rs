//! Whose directory is it? Who may write in the directory, or in one that leads to it, chooses the
//! keys that the gateway trusts and the code that it runs.
//!
//! The rules are those of sshd's `StrictModes`, with two additions. A directory with the sticky bit
//! (`/tmp`) may be writable by everybody, because others cannot replace in it what is ours. A group
//! whose number is that of the owner is the owner's own, as systems with a umask of 002 have it.

use std::{
    ffi::OsStr,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

/// Files whose readers could pose as the gateway or its administrator.
const KEYS: [&str; 3] = ["admin.token", "secrets.key", "seal.key"];

const ROOT: u32 = 0;
const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const GROUP_ACCESS: u32 = 0o070;
const OTHERS_ACCESS: u32 = 0o007;

/// A file or directory that another user owns, or could change or read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exposed {
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

/// The first directory that others could change, of `dir` and those that lead to it. Those that do
/// not exist are skipped.
pub(crate) fn exposed_path(dir: &Path) -> io::Result<Option<Exposed>> {
    let absolute = std::path::absolute(dir)?;
    let found = absolute.ancestors().map(fs::canonicalize).find_map(|found| match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found),
    });
    let Some(existing) = found.transpose()? else { return Ok(None) };
    let mut inside = existing != absolute;
    for path in existing.ancestors() {
        let metadata = fs::metadata(path)?;
        // In a sticky directory others cannot replace the entry that leads further: that one is
        // ours or root's, because the loop has come through it, or because we create it.
        let sticky = inside && metadata.mode() & STICKY != 0;
        inside = true;
        if let Some(exposed) = exposed(path, &metadata, geteuid().as_raw(), sticky) {
            return Ok(Some(exposed));
        }
    }
    Ok(None)
}

/// The first entry that others could change, of those in `dir` and in its subdirectories, and the
/// first key that others could read. Below that, files are known by hashes or seals.
pub(crate) fn exposed_entry(dir: &Path) -> io::Result<Option<Exposed>> {
    let mut directories = vec![dir.to_owned()];
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if fs::metadata(&path).is_ok_and(|entry| entry.is_dir()) {
            directories.push(path);
        }
    }
    for directory in directories {
        let entries = match fs::read_dir(&directory) {
            // What we cannot read, we do not use: a `lost+found`.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
            entries => entries?,
        };
        for entry in entries {
            if let Some(exposed) = exposed_file(&entry?.path())? {
                return Ok(Some(exposed));
            }
        }
    }
    Ok(None)
}

fn exposed_file(path: &Path) -> io::Result<Option<Exposed>> {
    let us = geteuid().as_raw();
    let Ok(metadata) = fs::symlink_metadata(path) else {
        // Removed since it was listed.
        return Ok(None);
    };
    if metadata.is_symlink() {
        // A link has no mode of its own. Whoever owns it decides where it leads.
        return Ok(match foreign(path, &metadata, us) {
            Some(exposed) => Some(exposed),
            None => exposed_path(path)?,
        });
    }
    let is_key = |name: &OsStr| KEYS.iter().any(|key| name == *key);
    let readable =
        path.file_name().is_some_and(is_key) && others(&metadata, GROUP_ACCESS, OTHERS_ACCESS) != 0;
    Ok(exposed(path, &metadata, us, false).or_else(|| {
        readable.then(|| Exposed {
            path: path.to_owned(),
            reason: format!("can be read by other users (mode {:04o})", metadata.mode() & 0o7777),
            remedy: format!("chmod go= {}", path.display()),
        })
    }))
}

fn exposed(path: &Path, metadata: &Metadata, us: u32, sticky: bool) -> Option<Exposed> {
    let writable = others(metadata, GROUP_WRITES, OTHERS_WRITE);
    foreign(path, metadata, us).or_else(|| {
        (writable != 0 && !sticky).then(|| Exposed {
            path: path.to_owned(),
            reason: format!(
                "can be changed by other users (mode {:04o})",
                metadata.mode() & 0o7777
            ),
            remedy: format!("chmod go-w {}", path.display()),
        })
    })
}

fn foreign(path: &Path, metadata: &Metadata, us: u32) -> Option<Exposed> {
    let owner = metadata.uid();
    (owner != us && owner != ROOT).then(|| Exposed {
        path: path.to_owned(),
        reason: format!("belongs to user {owner}, and the gateway runs as user {us}"),
        remedy: format!("chown {us} {}", path.display()),
    })
}

/// The bits of the mode that give others one of these rights.
fn others(metadata: &Metadata, group: u32, all: u32) -> u32 {
    let group = if metadata.gid() == metadata.uid() { 0 } else { group };
    metadata.mode() & (group | all)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn reason(found: io::Result<Option<Exposed>>) -> String {
        found.unwrap().map_or_else(String::new, |exposed| exposed.reason)
    }

    /// Case A20.
    #[test]
    fn a_directory_that_others_can_change_is_found_wherever_it_leads_to_ours() {
        let temp = tempfile::tempdir().unwrap();
        let (parent, dir) = (temp.path().join("parent"), temp.path().join("parent/data"));
        assert_eq!(reason(exposed_path(&dir)), "", "what does not exist is no danger");
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(reason(exposed_path(&dir)), "");
        mode(&parent, 0o777);
        let found = exposed_path(&dir).unwrap().unwrap();
        assert_eq!(found.path, parent.canonicalize().unwrap());
        assert_eq!(found.remedy, format!("chmod go-w {}", found.path.display()));
        let missing = exposed_path(&parent.join("missing/data"));
        assert!(reason(missing).contains("0777"), "others could create it first");
        // Others cannot replace what is ours in a directory like /tmp.
        mode(&parent, 0o1777);
        assert_eq!(reason(exposed_path(&dir)), "");
        assert_eq!(reason(exposed_path(&parent.join("missing"))), "");
        mode(&dir, 0o1777);
        assert!(reason(exposed_path(&dir)).contains("1777"), "it would be the data directory");
    }

    /// Case A20.
    #[test]
    fn keys_are_private_and_other_entries_are_not_writable_by_others() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        fs::create_dir(dir.join("code")).unwrap();
        let (key, database) = (dir.join("code/seal.key"), dir.join("mayfly.db"));
        for path in [&key, &database] {
            fs::write(path, b"").unwrap();
            mode(path, 0o600);
        }
        assert_eq!(reason(exposed_entry(dir)), "");
        mode(&database, 0o644);
        assert_eq!(reason(exposed_entry(dir)), "", "the directory keeps readers out");
        mode(&database, 0o666);
        assert!(reason(exposed_entry(dir)).contains("changed by other users (mode 0666)"));
        mode(&database, 0o600);
        mode(&key, 0o604);
        let found = exposed_entry(dir).unwrap().unwrap();
        assert_eq!(
            (found.path, found.remedy),
            (key.clone(), format!("chmod go= {}", key.display()))
        );
        mode(&key, 0o600);
        mode(&dir.join("code"), 0o703);
        assert!(reason(exposed_entry(dir)).contains("0703"));
        mode(&dir.join("code"), 0o700);
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), dir.join("artifacts")).unwrap();
        assert_eq!(reason(exposed_entry(dir)), "");
        mode(elsewhere.path(), 0o707);
        assert!(reason(exposed_entry(dir)).contains("0707"));
    }

    /// Case A20.
    #[test]
    fn what_belongs_to_another_user_is_refused_and_the_owners_own_group_is_not() {
        if !geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        fs::create_dir(&path).unwrap();
        let found = |uid, gid, bits, us| {
            chown(&path, Some(uid), Some(gid)).unwrap();
            mode(&path, bits);
            let found = exposed(&path, &fs::metadata(&path).unwrap(), us, false);
            found.map_or_else(String::new, |exposed| exposed.reason)
        };
        assert_eq!(
            found(65_534, 0, 0o700, 0),
            "belongs to user 65534, and the gateway runs as user 0"
        );
        assert_eq!(found(0, 0, 0o755, 1_000), "", "root may do everything anyway");
        assert_eq!(found(1_000, 1_000, 0o770, 1_000), "", "a group of its own");
        assert!(found(1_000, 50, 0o770, 1_000).contains("0770"));
        assert!(found(1_000, 1_000, 0o702, 1_000).contains("0702"));
    }
}
