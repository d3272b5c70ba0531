//! The guests that `functions/build test` builds.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

/// The bytes of `functions/dist/{name}.wasm`.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let path = path(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The path of that file.
pub(crate) fn path(name: &str) -> PathBuf {
    build();
    functions().join("dist").join(name).with_extension("wasm")
}

/// A different binary with the same behaviour: a custom section is appended.
pub(crate) fn distinct(wasm: &[u8], number: u32) -> Vec<u8> {
    const CUSTOM: u8 = 0;
    let mut section = vec![4];
    section.extend_from_slice(b"test");
    section.extend_from_slice(&number.to_le_bytes());
    let mut bytes = wasm.to_vec();
    bytes.extend_from_slice(&[CUSTOM, u8::try_from(section.len()).unwrap()]);
    bytes.extend_from_slice(&section);
    bytes
}

/// Builds the guests if they are out of date. The script takes a lock and is quick when there is
/// nothing to do. `MAYFLY_GUESTS_BUILT=1` skips it.
fn build() {
    static BUILD: Once = Once::new();
    BUILD.call_once(|| {
        if std::env::var_os("MAYFLY_GUESTS_BUILT").is_some_and(|value| value == "1") {
            return;
        }
        run_build("test");
    });
}

/// Builds a guest that is none of the group `test`, because that takes long.
pub(crate) fn build_large(name: &str) {
    run_build(name);
}

fn run_build(what: &str) {
    let output = Command::new(functions().join("build")).arg(what).output().unwrap();
    assert!(
        output.status.success(),
        "functions/build {what} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

fn functions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions")
}
