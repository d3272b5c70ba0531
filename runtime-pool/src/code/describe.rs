//! Describes an artifact for its author: what it is, what it needs, and what is missing.
//!
//! The bytes may be hostile here, too: what is listed is bounded.

use wasmparser::{KnownCustom, Parser, Payload};

use crate::{
    code::{
        artifact::Kind,
        inspect::{Contents, best_entry, inspect, is_provided, read_contents},
    },
    error::Refusal,
    limits::ArtifactLimits,
};

/// The size of a page of linear memory, unless a memory says otherwise.
const PAGE_BYTES: u64 = 64 << 10;
/// Tools that are listed at most.
const TOOLS_MAX: usize = 32;
/// Characters of a tool's name and version together, at most.
const TOOL_CHARS: usize = 128;

/// What an artifact is, as far as its bytes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// How it would run; `None` if it has no entry point.
    pub kind: Option<Kind>,
    /// Its imports: interface names, or `module.name` for core modules.
    pub imports: Vec<ImportedName>,
    /// Its exports, likewise.
    pub exports: Vec<String>,
    /// Bytes of linear memory that an instance has when it starts, over all memories.
    pub memory_bytes: u64,
    /// The languages and tools that made it, with their versions, as it says itself.
    pub toolchain: Vec<String>,
    /// Why it cannot be deployed; `None` if its bytes allow it.
    pub refusal: Option<Refusal>,
}

/// An import of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedName {
    /// The interface, or `module.name`.
    pub name: String,
    /// Whether functions of this kind get it.
    pub provided: bool,
}

/// Describes `bytes`.
#[must_use]
pub fn describe(bytes: &[u8], limits: &ArtifactLimits) -> Description {
    let refusal = inspect(bytes, limits).err();
    // Of bytes that end early or are not wasm at all, nothing is known.
    let contents = read_contents(bytes).unwrap_or_default();
    let kind = best_entry(&contents);
    let Contents { imports, exports, .. } = contents;
    let imports = imports
        .into_iter()
        .map(|name| ImportedName {
            provided: kind.is_some_and(|kind| is_provided(kind, &name)),
            name,
        })
        .collect();
    let (memory_bytes, toolchain) = read_details(bytes).unwrap_or_default();
    Description { kind, imports, exports, memory_bytes, toolchain, refusal }
}

/// The memory at the start, and the toolchain.
fn read_details(bytes: &[u8]) -> wasmparser::Result<(u64, Vec<String>)> {
    let (mut memory_bytes, mut toolchain) = (0_u64, Vec::new());
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    let page = memory
                        .page_size_log2
                        .map_or(PAGE_BYTES, |log2| 1_u64.checked_shl(log2).unwrap_or(PAGE_BYTES));
                    memory_bytes = memory_bytes.saturating_add(memory.initial.saturating_mul(page));
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(fields) = section.as_known() {
                    // A section of this kind that is malformed says nothing; the artifact may run.
                    let _ = add_tools(fields, &mut toolchain);
                }
            }
            _ => {}
        }
    }
    Ok((memory_bytes, toolchain))
}

fn add_tools(
    fields: wasmparser::ProducersSectionReader<'_>,
    tools: &mut Vec<String>,
) -> wasmparser::Result<()> {
    for field in fields {
        for value in field?.values {
            let value = value?;
            let tool = format!("{} {}", value.name, value.version);
            let tool: String = tool.trim().chars().take(TOOL_CHARS).collect();
            if tools.len() < TOOLS_MAX && !tools.contains(&tool) {
                tools.push(tool);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look(text: &str) -> Description {
        describe(&wat::parse_str(text).unwrap(), &ArtifactLimits::default())
    }

    #[test]
    fn a_component_is_described_with_the_memories_of_its_modules() {
        let described = look(
            r#"(component
                (import "wasi:io/poll@0.2.0" (instance))
                (core module (memory 2))
                (core module (memory 1))
                (instance $run)
                (export "wasi:cli/run@0.2.0" (instance $run)))"#,
        );
        assert_eq!(described.kind, Some(Kind::WasiCommand));
        assert_eq!(described.memory_bytes, 3 * PAGE_BYTES);
        assert_eq!(described.exports, ["wasi:cli/run@0.2.0"]);
        assert_eq!(described.refusal, None);
        let poll = ImportedName { name: "wasi:io/poll@0.2.0".into(), provided: true };
        assert_eq!(described.imports, [poll]);
    }

    #[test]
    fn what_is_missing_is_told_apart_from_what_is_there() {
        let described = look(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
                (import "env" "one" (func)) (func (export "_start")))"#,
        );
        assert_eq!(described.kind, Some(Kind::WasiPreview1));
        let provided: Vec<_> = described.imports.iter().map(|import| import.provided).collect();
        assert_eq!(provided, [true, false]);
        assert_eq!(described.refusal, Some(Refusal::UnknownImports(vec!["env.one".into()])));
    }

    #[test]
    fn the_toolchain_is_what_the_producers_section_says() {
        let described = look(
            r#"(module (func (export "_start"))
                (@producers (language "C11" "") (processed-by "clang" "21.1.0")))"#,
        );
        assert_eq!(described.toolchain, ["C11", "clang 21.1.0"]);
    }

    #[test]
    fn many_tools_with_long_names_are_cut() {
        let name = "n".repeat(1_000);
        let tools: String =
            (0..100).map(|n| format!("(processed-by \"{n} {name}\" \"1\")")).collect();
        let described = look(&format!("(module (@producers {tools}))"));
        assert_eq!(described.toolchain.len(), TOOLS_MAX);
        assert!(described.toolchain.iter().all(|tool| tool.len() == TOOL_CHARS));
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_they_are_described(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut binary = b"\0asm\x01\0\0\0".to_vec();
            binary.extend(&bytes);
            for bytes in [bytes, binary] {
                let described = describe(&bytes, &ArtifactLimits::default());
                prop_assert!(described.refusal.is_some() || described.kind.is_some());
            }
        }
    }
}
