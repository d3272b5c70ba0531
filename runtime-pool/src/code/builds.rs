//! Which builds of this program have made native code in a directory.
//!
//! Each build, on each sort of processor, has a directory of its own. A list in the directory above
//! says which build started here last, and whether it had native code of every active revision.
//! When the same build starts again after that, it has nothing to search for.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

/// How the names of unfinished files begin.
pub(super) const TEMPORARY: &str = ".tmp";
/// How the names of native code and of its seals end.
pub(super) const CODE: &str = "cwasm";
pub(super) const SEAL: &str = "json";
const LIST: &str = "engines";
/// Builds whose native code is kept: this one's, and that of the one before it, for a rollback.
const KEPT: usize = 2;

/// The builds that have native code in a directory.
pub(crate) struct Builds {
    dir: PathBuf,
    list: Mutex<BuildList>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct BuildList {
    /// The name of each build, the one that started last first.
    #[serde(rename = "engines")]
    builds: Vec<String>,
    /// Whether that one has had native code of every active revision.
    complete: bool,
}

/// Names what native code depends on besides the artifact, so that another build or another
/// machine never finds native code that does not fit it.
pub(crate) fn name(compatibility: u64) -> String {
    // In one piece, as the test with two builds changes it in a copy of the program.
    const BUILD: &str = concat!("native code of mayfly ", env!("CARGO_PKG_VERSION"));
    let mut hasher = blake3::Hasher::new();
    hasher.update(&compatibility.to_le_bytes());
    hasher.update(BUILD.as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

impl Builds {
    /// Reads the list in `dir`, and puts `build` first in it.
    pub(crate) fn open(dir: &Path, build: &str) -> io::Result<Self> {
        // A list that is missing or unreadable counts as empty: then native code is searched for.
        let list = fs::read(dir.join(LIST)).ok();
        let mut list: BuildList =
            list.and_then(|list| serde_json::from_slice(&list).ok()).unwrap_or_default();
        let builds = Self { dir: dir.to_owned(), list: Mutex::new(list.clone()) };
        if list.builds.first().is_none_or(|last| last != build) {
            // Written before anything is deployed: if the other build starts again, it must search
            // for native code of what is deployed from here on.
            list.builds.retain(|one| one != build);
            list.builds.insert(0, build.to_owned());
            list.complete = false;
            builds.write(list)?;
        }
        Ok(builds)
    }

    /// Whether there is native code of every active revision.
    pub(crate) fn is_complete(&self) -> bool {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).complete
    }

    /// Notes that there is native code of every active revision.
    pub(crate) fn set_complete(&self) -> io::Result<()> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.write(BuildList { complete: true, ..list })
    }

    /// The directory of each build that may have native code here.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.builds.iter().map(|build| self.dir.join(build)).collect()
    }

    /// Removes the native code of all builds but the last two.
    pub(crate) fn remove_old(&self) -> io::Result<()> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for build in list.builds.split_off(list.builds.len().min(KEPT)) {
            match fs::remove_dir_all(self.dir.join(&build)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => tracing::info!(build, "removed native code of an old build"),
            }
            // A build leaves the list only after its directory is gone.
            let rest = self.list.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let builds = rest.builds.into_iter().filter(|one| *one != build).collect();
            self.write(BuildList { builds, ..rest })?;
        }
        Ok(())
    }

    /// Nothing is flushed to the disk: a list that a crash destroys only causes a search.
    fn write(&self, list: BuildList) -> io::Result<()> {
        let mut file = NamedTempFile::with_prefix_in(TEMPORARY, &self.dir)?;
        file.write_all(&serde_json::to_vec(&list)?)?;
        file.persist(self.dir.join(LIST))?;
        *self.list.lock().unwrap_or_else(PoisonError::into_inner) = list;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case C07.
    #[test]
    fn a_start_of_the_same_engine_looks_for_no_missing_code_and_any_other_start_does() {
        let dir = tempfile::tempdir().unwrap();
        let open = |build| Builds::open(dir.path(), build).unwrap();
        assert!(!open("a").is_complete(), "no build was here");
        open("a").set_complete().unwrap();
        assert!(open("a").is_complete());
        assert!(!open("b").is_complete());
        assert!(!open("a").is_complete(), "deploys of the meantime have none");
        open("a").set_complete().unwrap();
        assert!(open("a").is_complete());
        fs::write(dir.path().join(LIST), "{").unwrap();
        assert!(!open("a").is_complete());
    }

    /// Case C07.
    #[test]
    fn the_engine_before_this_one_keeps_its_native_code_and_older_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        for build in ["a", "b", "c", "b"] {
            fs::create_dir_all(dir.path().join(build)).unwrap();
            Builds::open(dir.path(), build).unwrap();
        }
        let builds = Builds::open(dir.path(), "b").unwrap();
        builds.remove_old().unwrap();
        builds.remove_old().unwrap();
        assert_eq!(builds.dirs(), ["b", "c"].map(|build| dir.path().join(build)));
        assert!(builds.dirs().iter().all(|dir| dir.exists()));
        assert!(!dir.path().join("a").exists());
    }
}
