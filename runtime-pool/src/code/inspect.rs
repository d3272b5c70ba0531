//! Inspects an upload: its kind, its imports and exports, and the static limits that it exceeds.
//!
//! The bytes may be hostile. This runs in the compile worker, and must not panic.

use serde::{Deserialize, Serialize};
use wasmparser::{
    ComponentExternalKind, Encoding, ExternalKind, Parser, Payload, TypeRef, Validator,
    WasmFeatures,
};

use crate::{
    code::{artifact::Kind, snapshot::SnapshotOutcome},
    error::Refusal,
    host::capabilities::interfaces::names::served,
    limits::ArtifactLimits,
};

/// The result of an inspection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// How it runs.
    pub kind: Kind,
    /// Its imports: interface names, or `module.name` for core modules.
    pub imports: Vec<String>,
    /// Its exports, likewise.
    pub exports: Vec<String>,
    /// Whether the native code is that of its core module alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub core_module: bool,
    /// The outcome of the snapshot, if the owner has asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotOutcome>,
}

/// The names that decide a binary's kind, and the counts that limits apply to.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    component: bool,
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
    start_exported: bool,
    functions: u32,
    data: u32,
    elements: u32,
    memories: u32,
    tables: u32,
    core_instances: u32,
}

/// Inspects `bytes`, or says why they cannot be a function.
pub fn inspect(bytes: &[u8], limits: &ArtifactLimits) -> Result<Inspection, Refusal> {
    if !bytes.starts_with(b"\0asm") {
        return Err(Refusal::NotWasm(looks_like(bytes).into()));
    }
    let contents = read_contents(bytes).map_err(|error| Refusal::Invalid(error.to_string()))?;
    contents.check_limits(limits)?;
    validate(bytes)?;
    let kind = contents.best_kind()?;
    let Contents { imports, exports, .. } = contents;
    Ok(Inspection { kind, imports, exports, core_module: false, snapshot: None })
}

/// Guesses from its first bytes what a file is that is not a wasm binary.
pub(crate) fn looks_like(bytes: &[u8]) -> &'static str {
    let text = std::str::from_utf8(&bytes[..bytes.len().min(512)])
        .map_or_else(|error| std::str::from_utf8(&bytes[..error.valid_up_to()]), Ok)
        .unwrap_or_default()
        .trim_start();
    match bytes {
        [] => "empty",
        [0x7f, b'E', b'L', b'F', ..] => {
            "an ELF file (a native program, or a .cwasm file made by Wasmtime; then upload the .wasm)"
        }
        [b'M', b'Z', ..] => "a Windows program",
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] => "a macOS program",
        [0x1f, 0x8b, ..] => "a gzip archive",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "a zstd archive",
        [0xff, 0xd8, 0xff, ..] => "a JPEG picture",
        [0x89, b'P', b'N', b'G', ..] => "a PNG picture",
        [0, b'a', b's', ..] => "a wasm binary cut short",
        _ if text.starts_with("(module") || text.starts_with("(component") => {
            "wasm in its text format; convert it to the binary format (wasm-tools parse) first"
        }
        _ if text.starts_with("<!") || text.starts_with("<html") => "an HTML page",
        _ if text.starts_with("#!") => "a script",
        _ if text.starts_with('{') || text.starts_with('[') => "JSON",
        _ if text.len() >= bytes.len().min(512).saturating_sub(3) => "text",
        _ => "something unknown",
    }
}

pub(crate) fn read_contents(bytes: &[u8]) -> wasmparser::Result<Contents> {
    let mut contents = Contents::default();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { encoding, .. } => {
                if depth == 0 {
                    contents.component = encoding == Encoding::Component;
                }
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            payload => contents.add(payload, depth)?,
        }
    }
    Ok(contents)
}

impl Contents {
    fn add(&mut self, payload: Payload<'_>, depth: u32) -> wasmparser::Result<()> {
        let outermost = depth == 0;
        match payload {
            Payload::FunctionSection(section) => add(&mut self.functions, section.count()),
            Payload::DataSection(section) => add(&mut self.data, section.count()),
            Payload::ElementSection(section) => add(&mut self.elements, section.count()),
            Payload::MemorySection(section) => add(&mut self.memories, section.count()),
            Payload::TableSection(section) => add(&mut self.tables, section.count()),
            Payload::InstanceSection(section) => {
                for instance in section {
                    // The other variant only renames exports, and takes no slot of an engine.
                    if matches!(instance?, wasmparser::Instance::Instantiate { .. }) {
                        add(&mut self.core_instances, 1);
                    }
                }
            }
            Payload::ImportSection(section) if outermost => {
                for import in section.into_imports() {
                    let import = import?;
                    self.imports.push(format!("{}.{}", import.module, import.name));
                    self.count_import(import.ty);
                }
            }
            Payload::ExportSection(section) if outermost => {
                for export in section {
                    let export = export?;
                    self.start_exported |=
                        export.name == "_start" && export.kind == ExternalKind::Func;
                    self.exports.push(export.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) if outermost => {
                for import in section {
                    self.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if outermost => {
                for export in section {
                    let export = export?;
                    if matches!(
                        export.kind,
                        ComponentExternalKind::Instance | ComponentExternalKind::Func
                    ) {
                        self.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn count_import(&mut self, ty: TypeRef) {
        match ty {
            TypeRef::Memory(_) => add(&mut self.memories, 1),
            TypeRef::Table(_) => add(&mut self.tables, 1),
            _ => {}
        }
    }

    fn check_limits(&self, limits: &ArtifactLimits) -> Result<(), Refusal> {
        let (imports, exports) = (count(self.imports.len()), count(self.exports.len()));
        let counts = [
            ("functions", "functions", self.functions, limits.functions),
            ("data segments", "data_segments", self.data, limits.data_segments),
            ("element segments", "element_segments", self.elements, limits.element_segments),
            ("linear memories", "memories", self.memories, limits.memories),
            ("tables", "tables", self.tables, limits.tables),
            ("core instances", "core_instances", self.core_instances, limits.core_instances),
            ("imports", "imports", imports, limits.imports),
            ("exports", "exports", exports, limits.exports),
        ];
        match counts.iter().find(|(_, _, found, max)| found > max) {
            Some((what, setting, found, max)) => Err(Refusal::TooLarge(format!(
                "it has {found} {what}; at most {max} are allowed (the operator's setting \
                 uploads.{setting})"
            ))),
            None => Ok(()),
        }
    }

    /// The kinds of function that its exports make it, the best first.
    fn kinds(&self) -> Result<Vec<Kind>, Refusal> {
        let exports =
            |interface: &str| self.exports.iter().any(|name| interface_matches(name, interface));
        if !self.component {
            return if self.start_exported {
                Ok(vec![Kind::WasiPreview1])
            } else {
                Err(Refusal::NoEntryPoint(format!(
                    "it is a core module that exports {}; a core module must export the function \
                     `_start` (a WASI preview1 command)",
                    listed(&self.exports)
                )))
            };
        }
        let kinds: Vec<_> = EXPORTS
            .iter()
            .filter(|(interface, _)| exports(interface))
            .map(|(_, kind)| *kind)
            .collect();
        if kinds.is_empty() {
            return Err(Refusal::NoEntryPoint(format!(
                "it is a component that exports {}; a function must export \
                 `wasi:http/incoming-handler@0.2.x`, `wasi:http/handler@0.3.x`, \
                 `wasi:cli/run@0.2.x` or `wasi:cli/run@0.3.x`",
                listed(&self.exports)
            )));
        }
        Ok(kinds)
    }

    /// The best kind whose imports are all provided.
    fn best_kind(&self) -> Result<Kind, Refusal> {
        match self.fewest_unknown(self.kinds()?) {
            Some((kind, unknown)) if unknown.is_empty() => Ok(kind),
            Some((_, unknown)) => Err(Refusal::UnknownImports(unknown)),
            None => Err(Refusal::NoEntryPoint("it has no entry point".into())),
        }
    }

    /// The first of those kinds with the fewest imports that are not provided, and these: of the kinds
    /// that would work, the best.
    fn fewest_unknown(&self, kinds: Vec<Kind>) -> Option<(Kind, Vec<String>)> {
        let unknown = |kind| {
            let names = self.imports.iter().filter(move |name| !is_provided(kind, name));
            names.map(move |name| unknown_import(kind, name)).collect::<Vec<_>>()
        };
        let with_unknown = kinds.into_iter().map(|kind| (kind, unknown(kind)));
        with_unknown.min_by_key(|(_, unknown)| unknown.len())
    }
}

/// The kind that an artifact with these contents would run as, if something is missing, too.
pub(crate) fn best_entry(contents: &Contents) -> Option<Kind> {
    contents.fewest_unknown(contents.kinds().ok()?).map(|(kind, _)| kind)
}

/// The interfaces that make a component a function. Where it exports several, the first is the best:
/// a handler streams both ways, and the newer one also works while it waits.
const EXPORTS: &[(&str, Kind)] = &[
    ("wasi:http/handler@0.3", Kind::WasiHttp03),
    ("wasi:http/incoming-handler@0.2", Kind::WasiHttp02),
    ("wasi:cli/run@0.3", Kind::WasiCommand03),
    ("wasi:cli/run@0.2", Kind::WasiCommand),
];

/// How a refusal names an import.
fn unknown_import(kind: Kind, name: &str) -> String {
    if is_provided(Kind::WasiHttp03, name) && kind != Kind::WasiPreview1 {
        format!("{name} (to a component that exports no interface of WASI 0.3)")
    } else {
        name.to_owned()
    }
}

fn add(total: &mut u32, more: u32) {
    *total = total.saturating_add(more);
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "nothing".into(),
        names => {
            let shown = names.iter().take(5).map(|name| format!("`{name}`"));
            let mut text = shown.collect::<Vec<_>>().join(", ");
            if names.len() > 5 {
                text.push_str(", …");
            }
            text
        }
    }
}

/// Whether `name` is `interface` in any patch version: `wasi:io/poll@0.2.6` is `wasi:io/poll@0.2`.
fn interface_matches(name: &str, interface: &str) -> bool {
    name.strip_prefix(interface).is_some_and(|rest| {
        rest.strip_prefix('.').is_some_and(|patch| {
            !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

/// Checks the binary against the proposals that our engines support, so that the owner reads the
/// name of a missing feature instead of an error of the compiler.
fn validate(bytes: &[u8]) -> Result<(), Refusal> {
    let mut features = WasmFeatures::WASM2 | WasmFeatures::COMPONENT_MODEL;
    features |= WasmFeatures::CM_ASYNC
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::RELAXED_SIMD;
    // References to objects of the host would need a garbage collector as well.
    features.remove(WasmFeatures::GC_TYPES);
    Validator::new_with_features(features)
        .validate_all(bytes)
        .map(drop)
        .map_err(|error| Refusal::Invalid(error.to_string()))
}

const WASI_02: &[&str] = &[
    "wasi:cli/environment@0.2",
    "wasi:cli/exit@0.2",
    "wasi:cli/stdin@0.2",
    "wasi:cli/stdout@0.2",
    "wasi:cli/stderr@0.2",
    "wasi:cli/terminal-input@0.2",
    "wasi:cli/terminal-output@0.2",
    "wasi:cli/terminal-stdin@0.2",
    "wasi:cli/terminal-stdout@0.2",
    "wasi:cli/terminal-stderr@0.2",
    "wasi:clocks/monotonic-clock@0.2",
    "wasi:clocks/wall-clock@0.2",
    "wasi:filesystem/types@0.2",
    "wasi:filesystem/preopens@0.2",
    "wasi:http/types@0.2",
    "wasi:http/outgoing-handler@0.2",
    "wasi:io/error@0.2",
    "wasi:io/poll@0.2",
    "wasi:io/streams@0.2",
    "wasi:random/random@0.2",
    "wasi:random/insecure@0.2",
    "wasi:random/insecure-seed@0.2",
    "wasi:sockets/instance-network@0.2",
    "wasi:sockets/ip-name-lookup@0.2",
    "wasi:sockets/network@0.2",
    "wasi:sockets/tcp@0.2",
    "wasi:sockets/tcp-create-socket@0.2",
    "wasi:sockets/udp@0.2",
    "wasi:sockets/udp-create-socket@0.2",
];

const WASI_03: &[&str] = &[
    "wasi:cli/environment@0.3",
    "wasi:cli/exit@0.3",
    "wasi:cli/stdin@0.3",
    "wasi:cli/stdout@0.3",
    "wasi:cli/stderr@0.3",
    "wasi:cli/types@0.3",
    "wasi:cli/terminal-input@0.3",
    "wasi:cli/terminal-output@0.3",
    "wasi:cli/terminal-stdin@0.3",
    "wasi:cli/terminal-stdout@0.3",
    "wasi:cli/terminal-stderr@0.3",
    "wasi:clocks/monotonic-clock@0.3",
    "wasi:clocks/system-clock@0.3",
    "wasi:clocks/types@0.3",
    "wasi:filesystem/types@0.3",
    "wasi:filesystem/preopens@0.3",
    "wasi:http/types@0.3",
    "wasi:http/client@0.3",
    "wasi:random/random@0.3",
    "wasi:random/insecure@0.3",
    "wasi:random/insecure-seed@0.3",
    "wasi:sockets/types@0.3",
    "wasi:sockets/ip-name-lookup@0.3",
];

/// Whether the platform provides an import, granted or not. The linker decides when the deploy makes an instance;
/// this list exists to name every missing import at once.
pub(crate) fn is_provided(kind: Kind, name: &str) -> bool {
    let listed = |list: &[&str]| list.iter().any(|known| interface_matches(name, known));
    match kind {
        Kind::WasiPreview1 => name.starts_with("wasi_snapshot_preview1."),
        Kind::WasiHttp02 | Kind::WasiCommand => listed(WASI_02) || served(false, name).is_some(),
        Kind::WasiHttp03 | Kind::WasiCommand03 => {
            listed(WASI_02) || listed(WASI_03) || served(true, name).is_some()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look(bytes: &[u8]) -> Result<Inspection, Refusal> {
        inspect(bytes, &ArtifactLimits::default())
    }

    fn module(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    /// Cases U01, U02.
    #[test]
    fn files_of_other_formats_are_named() {
        for (bytes, expected) in [
            (b"".as_slice(), "empty"),
            (b"\x7fELF\x02\x01\x01", "an ELF file"),
            (b"\xff\xd8\xff\xe0", "a JPEG"),
            (b"<!doctype html>", "an HTML page"),
            (b"  (module)", "text format"),
            (b"hello, world", "text"),
            (b"\x00as", "cut short"),
        ] {
            let refusal = look(bytes).unwrap_err();
            assert!(refusal.to_string().contains(expected), "{refusal}");
        }
    }

    #[test]
    fn a_core_module_with_a_start_export_is_a_preview1_command() {
        let bytes = module(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
                (memory (export "memory") 1) (func (export "_start")))"#,
        );
        let inspection = look(&bytes).unwrap();
        assert_eq!(inspection.kind, Kind::WasiPreview1);
        assert_eq!(inspection.imports, ["wasi_snapshot_preview1.proc_exit"]);
    }

    #[test]
    fn a_module_without_start_is_refused_with_what_it_exports() {
        let refusal = look(&module(r#"(module (func (export "add")))"#)).unwrap_err();
        assert!(refusal.to_string().contains("`add`"), "{refusal}");
        assert!(refusal.to_string().contains("_start"), "{refusal}");
    }

    #[test]
    fn every_unknown_import_is_named() {
        let bytes = module(
            r#"(module (import "env" "one" (func)) (import "other" "two" (func))
                (func (export "_start")))"#,
        );
        let names = vec!["env.one".to_owned(), "other.two".to_owned()];
        assert_eq!(look(&bytes).unwrap_err(), Refusal::UnknownImports(names));
    }

    #[test]
    fn features_that_are_off_are_named() {
        for (text, feature) in [
            ("(module (memory i64 1))", "memory64"),
            ("(module (memory 1 1 shared))", "threads"),
            ("(module (tag))", "exceptions"),
            ("(module (type (struct)))", "gc"),
        ] {
            let refusal = look(&module(text)).unwrap_err();
            assert!(matches!(refusal, Refusal::Invalid(_)), "{feature}: {refusal}");
        }
    }

    /// Case U11.
    #[test]
    fn an_artifact_at_each_limit_passes_and_one_above_is_refused_with_the_setting() {
        let bytes = module(
            r#"(component
                (import "wasi:io/poll@0.2.0" (instance))
                (core module $m (memory 1) (table 1 funcref) (func $f (export "f"))
                    (elem (i32.const 0) $f) (data (i32.const 0) "x"))
                (core instance $i (instantiate $m))
                (func $g (canon lift (core func $i "f")))
                (instance $run (export "run" (func $g)))
                (export "wasi:cli/run@0.2.0" (instance $run)))"#,
        );
        let exactly = ArtifactLimits {
            functions: 1,
            data_segments: 1,
            element_segments: 1,
            imports: 1,
            exports: 1,
            core_instances: 1,
            memories: 1,
            tables: 1,
        };
        assert_eq!(inspect(&bytes, &exactly).unwrap().kind, Kind::WasiCommand);
        for (limits, setting) in [
            (ArtifactLimits { functions: 0, ..exactly }, "uploads.functions"),
            (ArtifactLimits { data_segments: 0, ..exactly }, "uploads.data_segments"),
            (ArtifactLimits { element_segments: 0, ..exactly }, "uploads.element_segments"),
            (ArtifactLimits { imports: 0, ..exactly }, "uploads.imports"),
            (ArtifactLimits { exports: 0, ..exactly }, "uploads.exports"),
            (ArtifactLimits { core_instances: 0, ..exactly }, "uploads.core_instances"),
            (ArtifactLimits { memories: 0, ..exactly }, "uploads.memories"),
            (ArtifactLimits { tables: 0, ..exactly }, "uploads.tables"),
        ] {
            let refusal = inspect(&bytes, &limits).unwrap_err();
            assert!(matches!(refusal, Refusal::TooLarge(_)), "{setting}: {refusal}");
            assert!(refusal.to_string().contains(&format!("{setting})")), "{refusal}");
        }
    }

    /// A component that imports and exports instances of these names.
    fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
        let imports = imports.iter().map(|name| format!("(import \"{name}\" (instance))"));
        let exports = exports.iter().map(|name| format!("(export \"{name}\" (instance $i))"));
        let body: Vec<_> = imports.chain(["(instance $i)".to_owned()]).chain(exports).collect();
        module(&format!("(component {})", body.join("\n")))
    }

    #[test]
    fn of_several_exports_the_best_is_taken_whose_imports_are_provided() {
        let (http_03, http_02) = ("wasi:http/handler@0.3.0", "wasi:http/incoming-handler@0.2.3");
        let (run_03, run_02) = ("wasi:cli/run@0.3.0", "wasi:cli/run@0.2.0");
        let (io, clock) = ("wasi:io/poll@0.2.0", "wasi:clocks/system-clock@0.3.0");
        for (imports, exports, kind) in [
            (&[io, clock][..], &[run_02, run_03, http_02, http_03][..], Kind::WasiHttp03),
            (&[io], &[run_03, http_02], Kind::WasiHttp02),
            // The engine of 0.2 would refuse this import.
            (&[clock], &[run_03, http_02], Kind::WasiCommand03),
            (&[io], &[run_02, run_03], Kind::WasiCommand03),
            (&[io], &[run_02], Kind::WasiCommand),
        ] {
            let bytes = component(imports, exports);
            assert_eq!(look(&bytes).unwrap().kind, kind, "{imports:?} {exports:?}");
        }
    }

    #[test]
    fn an_unknown_import_is_named_for_the_export_that_lacks_the_least() {
        let clock = "wasi:clocks/system-clock@0.3.0";
        let both = component(&["acme:x/y", clock], &["wasi:cli/run@0.2.0", "wasi:cli/run@0.3.0"]);
        assert_eq!(look(&both).unwrap_err(), Refusal::UnknownImports(vec!["acme:x/y".to_owned()]));
        let refusal = look(&component(&[clock], &["wasi:cli/run@0.2.0"])).unwrap_err();
        assert!(refusal.to_string().contains("exports no interface of WASI 0.3"), "{refusal}");
    }

    #[test]
    fn versions_match_by_minor_and_not_by_prefix() {
        assert!(interface_matches("wasi:io/poll@0.2.12", "wasi:io/poll@0.2"));
        assert!(!interface_matches("wasi:io/poll@0.20.1", "wasi:io/poll@0.2"));
        assert!(!interface_matches("wasi:io/poll@0.2", "wasi:io/poll@0.2"));
        assert!(!interface_matches("wasi:io/poll@0.2.0-draft", "wasi:io/poll@0.2"));
    }

    /// Each proposal that SECURITY.md says is off, in a module that is valid with it.
    const OFF: &[(&str, &[&str])] = &[
        (
            "threads",
            &[
                "(module (memory 1 1 shared))",
                "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
                "(module (memory 1) (func (atomic.fence)))",
            ],
        ),
        ("shared memory", &["(module (import \"env\" \"memory\" (memory 1 2 shared)))"]),
        (
            "garbage collection",
            &[
                "(module (type (struct)))",
                "(module (type (array i8)))",
                "(module (func (param externref)))",
                "(module (func (param anyref)))",
                "(module (func (result i31ref) (ref.i31 (i32.const 1))))",
                "(module (type $t (func)) (func (param (ref null $t)) (call_ref $t (local.get 0))))",
            ],
        ),
        (
            "exceptions",
            &[
                "(module (tag))",
                "(module (import \"env\" \"e\" (tag)))",
                "(module (func (param exnref)))",
                "(module (func (block (try_table (catch_all 0)))))",
            ],
        ),
        ("64-bit memories", &["(module (memory i64 1))", "(module (table i64 1 funcref))"]),
        ("stack switching", &["(module (type $f (func)) (type (cont $f)))"]),
    ];

    /// Case X02.
    #[test]
    fn a_feature_that_security_md_calls_off_passes_neither_the_check_nor_an_engine() {
        let text = std::fs::read_to_string("../SECURITY.md").unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, list) = text.split_once("ordinary guests do not need are off: ").unwrap();
        let (list, _) = list.split_once('.').unwrap();
        let named: Vec<_> = list.split(", ").collect();
        assert_eq!(named, OFF.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, modules) in OFF {
            for text in *modules {
                let core = module(text);
                // Alone and within a component, where it would be as good.
                let inside = module(&format!("(component (core {})", &text[1..]));
                for bytes in [core, inside] {
                    let refused = look(&bytes);
                    let is_refused = matches!(refused, Err(Refusal::Invalid(_)));
                    assert!(is_refused, "{name}: {text}: {refused:?}");
                    for kind in [Kind::WasiHttp02, Kind::WasiHttp03] {
                        let engine = crate::engine::compiling_engine(kind.engine()).unwrap();
                        let made = match bytes[4] {
                            1 => engine.precompile_module(&bytes),
                            _ => engine.precompile_component(&bytes),
                        };
                        assert!(made.is_err(), "{name}: {text}: {kind} compiles it");
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Case U04.
        #[test]
        fn no_damage_to_a_component_makes_it_panic(
            flips in proptest::collection::vec((any::<usize>(), 0_u32..8), 0..4),
            cut in any::<usize>(),
        ) {
            let mut bytes = module(
                r#"(component
                    (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
                    (core module $m (memory (export "m") 1) (table 2 funcref)
                        (func $f (export "f") (param i32) (result i32)
                            (if (result i32) (local.get 0) (then (i32.const 1)) (else (i32.const 2))))
                        (elem (i32.const 0) $f) (data (i32.const 8) "some data"))
                    (core instance $i (instantiate $m))
                    (func (export "g") (param "x" u32) (result u32)
                        (canon lift (core func $i "f"))))"#,
            );
            let len = bytes.len();
            for (at, bit) in flips {
                bytes[at % len] ^= 1 << bit;
            }
            drop(look(&bytes[..len - cut % len]));
            drop(look(&bytes));
        }
    }

    proptest! {
        /// Case U04.
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            drop(look(&bytes));
        }

        /// Case U04.
        #[test]
        fn no_damage_to_a_module_makes_it_panic(at in 0_usize..64, byte: u8, cut in 0_usize..64) {
            let mut bytes = module(r#"(module (memory 1) (data (i32.const 0) "x")
                (func (export "_start") (drop (i32.const 1))))"#);
            let len = bytes.len();
            bytes[at % len] = byte;
            drop(look(&bytes[..len - cut % len]));
        }
    }
}
