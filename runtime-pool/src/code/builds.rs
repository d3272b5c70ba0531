//! Which builds have made native code in a directory, so that a start need not look at the code.
//!
//! Each build on each sort of processor has a directory of its own. A list says which was the last
//! to work here, and whether there was native code of all that was active when it did: then a start
//! of the same one has nothing to look for.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

const LIST: &str = "engines";
/// Builds whose native code is kept: that of this one, and of the one before it, for going back.
const KEPT: usize = 2;

/// What native code is made for.
pub(crate) struct Engines {
    dir: PathBuf,
    list: Mutex<List>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct List {
    /// The name of each engine, the last that was at work first.
    engines: Vec<String>,
    /// Whether that one has had native code of all that was active.
    complete: bool,
}

/// Names what native code depends on besides the artifact, so that another build or another
/// machine finds nothing instead of something unfit.
pub(crate) fn name(compatibility: u64) -> String {
    // In one piece, as the test with two builds changes it in a copy of the program.
    const BUILD: &str = concat!("native code of mayfly ", env!("CARGO_PKG_VERSION"));
    let mut hasher = blake3::Hasher::new();
    hasher.update(&compatibility.to_le_bytes());
    hasher.update(BUILD.as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

impl Engines {
    /// Reads the list in `dir`, and says in it that `engine` is at work from here on.
    pub(crate) fn open(dir: &Path, engine: &str) -> io::Result<Self> {
        // Without a list, or with one that nobody understands, everything is looked for.
        let list = fs::read(dir.join(LIST)).ok();
        let mut list: List =
            list.and_then(|list| serde_json::from_slice(&list).ok()).unwrap_or_default();
        let engines = Self { dir: dir.to_owned(), list: Mutex::new(list.clone()) };
        if list.engines.first().is_none_or(|last| last != engine) {
            // Before anything is deployed: whoever goes back afterwards must look for that.
            list.engines.retain(|one| one != engine);
            list.engines.insert(0, engine.to_owned());
            list.complete = false;
            engines.write(list)?;
        }
        Ok(engines)
    }

    /// Whether there is native code of all that is active.
    pub(crate) fn is_complete(&self) -> bool {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).complete
    }

    /// Notes that there is native code of all that is active.
    pub(crate) fn set_complete(&self) -> io::Result<()> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.write(List { complete: true, ..list })
    }

    /// The directory of each that may have native code here.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.engines.iter().map(|engine| self.dir.join(engine)).collect()
    }

    /// Removes the native code of those before the last two.
    pub(crate) fn remove_old(&self) -> io::Result<()> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for engine in list.engines.split_off(list.engines.len().min(KEPT)) {
            match fs::remove_dir_all(self.dir.join(&engine)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => tracing::info!(engine, "removed native code of an old build"),
            }
            // The list shrinks only by what is gone.
            let rest = self.list.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let engines = rest.engines.into_iter().filter(|one| *one != engine).collect();
            self.write(List { engines, ..rest })?;
        }
        Ok(())
    }

    /// Nothing is flushed to the disk: a list that a crash took leads to looking, no more.
    fn write(&self, list: List) -> io::Result<()> {
        let mut file = NamedTempFile::with_prefix_in(crate::code::cache::TEMPORARY, &self.dir)?;
        file.write_all(&serde_json::to_vec(&list)?)?;
        file.persist(self.dir.join(LIST))?;
        *self.list.lock().unwrap_or_else(PoisonError::into_inner) = list;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c07_a_start_of_the_same_engine_has_nothing_to_look_for_and_any_other_has() {
        let dir = tempfile::tempdir().unwrap();
        let open = |engine| Engines::open(dir.path(), engine).unwrap();
        assert!(!open("a").is_complete(), "nobody was here");
        open("a").set_complete().unwrap();
        assert!(open("a").is_complete());
        assert!(!open("b").is_complete());
        assert!(!open("a").is_complete(), "what was deployed meanwhile has none");
        open("a").set_complete().unwrap();
        assert!(open("a").is_complete());
        fs::write(dir.path().join(LIST), "{").unwrap();
        assert!(!open("a").is_complete());
    }

    #[test]
    fn c07_the_engine_before_this_one_keeps_its_native_code_and_older_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        for engine in ["a", "b", "c", "b"] {
            fs::create_dir_all(dir.path().join(engine)).unwrap();
            Engines::open(dir.path(), engine).unwrap();
        }
        let engines = Engines::open(dir.path(), "b").unwrap();
        engines.remove_old().unwrap();
        engines.remove_old().unwrap();
        assert_eq!(engines.dirs(), ["b", "c"].map(|engine| dir.path().join(engine)));
        assert!(engines.dirs().iter().all(|dir| dir.exists()));
        assert!(!dir.path().join("a").exists());
    }
}
