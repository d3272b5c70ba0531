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

/// Where `functions/build` puts guests, in the source tree that this was built from.
#[must_use]
pub fn dist() -> PathBuf {
    let this_crate = Path::new(env!("CARGO_MANIFEST_DIR"));
    this_crate.parent().unwrap_or(this_crate).join("functions/dist")
}

impl Guest {
    /// Reads a guest.
    ///
    /// # Errors
    /// When it is not built: says how to.
    pub fn read(dist: &Path, name: &str) -> anyhow::Result<Self> {
        let path = dist.join(name).with_extension("wasm");
        let wasm = fs::read(&path).with_context(|| {
            format!("there is no guest {}; build it first: functions/build {name}", path.display())
        })?;
        Ok(Self { name: name.to_owned(), wasm })
    }

    /// The same guest under another digest: a custom section at its end holds `number`.
    #[must_use]
    pub fn stamped(&self, number: u64) -> Vec<u8> {
        const NAME: &[u8] = b"mayfly-bench";
        let mut section = vec![NAME.len() as u8];
        section.extend_from_slice(NAME);
        section.extend_from_slice(&number.to_le_bytes());
        let mut wasm = self.wasm.clone();
        // Section 0, and a size below 128, which is its own LEB128.
        wasm.extend_from_slice(&[0, section.len() as u8]);
        wasm.extend_from_slice(&section);
        wasm
    }
}
