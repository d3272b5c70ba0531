//! The `mayfly.toml` that deploys a file.

use std::path::Path;

use gateway_api::FunctionLimit;
use runtime_pool::Description;
use toml::Value;

use super::words;
use crate::{config::sizes, functions::name::is_name};

/// The longest name of a function.
const NAME_CHARS: usize = 63;
/// The name of a file whose own name has nothing that a function's could have.
const OTHER_NAME: &str = "function";

/// A manifest with this file as its one function, and with the settings that its bytes ask for. Those
/// that only a person can choose are empty, or stand in a comment.
pub(super) fn manifest(file: &str, described: &Description) -> String {
    let name = name_of(file);
    let mut text =
        format!("project = \"{name}\"\n\n[functions.{name}]\nartifact = {}\n", Value::from(file));
    let mut lines: Vec<&str> = Vec::new();
    for import in &described.imports {
        let of_import = words::meaning(&import.name).manifest;
        if !lines.contains(&of_import) {
            lines.push(of_import);
        }
    }
    text.extend(lines);
    let limit = FunctionLimit::MemoryBytes.row();
    if described.memory_bytes > limit.default {
        let bytes = described.memory_bytes.next_power_of_two().min(limit.maximum);
        text.push_str("# More than the default: an instance begins with so much, or nearly.\n");
        text.push_str(&format!("memory_bytes = \"{}\"\n", sizes::format(bytes)));
    }
    text
}

/// A function's name that is like the name of a file.
fn name_of(file: &str) -> String {
    let stem = Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
    let plain = stem.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let plain = plain.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let name = plain[..plain.len().min(NAME_CHARS)].trim_end_matches('-');
    if is_name(name) { name.to_owned() } else { OTHER_NAME.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use runtime_pool::{ArtifactLimits, describe};

    use super::*;

    fn described(wat: &str) -> Description {
        describe(&wat::parse_str(wat).unwrap(), &ArtifactLimits::default())
    }

    const PROGRAM: &str = "(func (export \"_start\")) (memory (export \"memory\") 1)";

    #[test]
    fn a_file_that_needs_nothing_has_no_settings() {
        let described = described(&format!("(module {PROGRAM})"));
        assert_eq!(
            manifest("dist/My \"App\".wasm", &described),
            "project = \"my--app\"\n\n[functions.my--app]\nartifact = 'dist/My \"App\".wasm'\n"
        );
    }

    #[test]
    fn settings_are_those_that_the_bytes_ask_for() {
        let open = "(import \"wasi_snapshot_preview1\" \"path_open\" (func (param i32 i32 i32 i32 \
                    i32 i64 i64 i32 i32) (result i32)))";
        let large = "(func (export \"_start\")) (memory (export \"memory\") 2100)";
        let described = described(&format!("(module {open} {large})"));
        let text = manifest("a.wasm", &described);
        for line in ["# files = \"public\"\n", "memory_bytes = \"256 MiB\"\n"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("outbound"), "{text}");
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["functions"]["a"]["artifact"], Value::from("a.wasm"));
    }

    proptest! {
        #[test]
        fn every_file_has_a_name_and_a_manifest_that_is_toml(file in ".*") {
            prop_assert!(is_name(&name_of(&file)));
            let described = described(&format!("(module {PROGRAM})"));
            let parsed: toml::Table = manifest(&file, &described).parse().unwrap();
            prop_assert_eq!(parsed["functions"][name_of(&file)]["artifact"].as_str(), Some(&*file));
        }
    }
}
