//! The guests under `functions/dist`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// A guest's wasm.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The name of its file, without `.wasm`.
    pub name: String,
    /// The binary.
    pub wasm: Vec<u8>,
}

/// The directory of the guests that `functions/build` has built, in this source tree.
#[must_use]
pub fn dist() -> PathBuf {
    let this_crate = Path::new(env!("CARGO_MANIFEST_DIR"));
    this_crate.parent().unwrap_or(this_crate).join("functions/dist")
}

impl Guest {
    /// Reads a guest.
    ///
    /// # Errors
    /// When the guest is not built. The message says how to build it.
    pub fn read(dist: &Path, name: &str) -> anyhow::Result<Self> {
        let path = dist.join(name).with_extension("wasm");
        let wasm = fs::read(&path).with_context(|| {
            format!("there is no guest {}; build it first: functions/build {name}", path.display())
        })?;
        Ok(Self { name: name.to_owned(), wasm })
    }

    /// The guest with another digest: a custom section with `number` is appended.
    #[must_use]
    pub fn stamped(&self, number: u64) -> Vec<u8> {
        const NAME: &[u8] = b"mayfly-bench";
        let mut section = vec![NAME.len() as u8];
        section.extend_from_slice(NAME);
        section.extend_from_slice(&number.to_le_bytes());
        let mut wasm = self.wasm.clone();
        // Section 0. A size below 128 is encoded in LEB128 as itself.
        wasm.extend_from_slice(&[0, section.len() as u8]);
        wasm.extend_from_slice(&section);
        wasm
    }
}
