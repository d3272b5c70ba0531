use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parsed(text: &str) -> Result<ManifestFile, String> {
    ManifestFile::parse(Path::new("shop/mayfly.toml"), text.to_owned())
        .map_err(|failure| failure.text())
}

/// What is printed about a document with mistakes, without `error: ` and the name of the file.
fn mistakes(text: &str) -> Vec<String> {
    let Err(shown) = parsed(text) else { panic!("no mistake is seen in {text}") };
    let lines = shown.lines().map(|line| line.trim_start_matches("error: ").trim_start());
    lines.map(|line| line.replace("shop/mayfly.toml:", "")).collect()
}

fn mistake(text: &str) -> String {
    let mut found = mistakes(text);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

const WHOLE: &str = r#"
project = "shop"

[functions.hello]
artifact = "dist/hello.wasm"
files = { path = "public", at = "/srv" }
version = "1.2.0"
labels = { commit = "4be1f0c" }
description = "Says hello"
timeout_ms = 500
memory_bytes = "64MiB"
environment = { GREETING = "hello", "A.B" = "dots" }
snapshot = true
isolation = { mode = "reuse" }

[functions.hello.channels.prod]
range = "~1.2"
weights = [{ revision = 3, percent = 10 }]

[functions.plain]
artifact = "/abs/plain.wasm"
files = "public"

[routes.users]
path = "/users/*rest"
function = "hello"
request_bytes = "1 KiB"
compression = ["br"]

[schedules.nightly]
function = "hello"
cron = "0 3 * * *"
overlap = "skip"

[queues.orders]
function = "hello"

[[flows.checkout.steps]]
function = "hello"

[[flows.checkout.steps]]
group = [{ function = "hello" }, { function = "plain", on_error.codes.404 = "continue" }]
"#;

fn stored(file: &ManifestFile) -> BTreeMap<String, StoredFunction> {
    let stored = file.functions().into_iter().map(|function| {
        let artifact = format!("sha256:{}", function.name);
        let tree = function.files.map(|files| files.directory.display().to_string());
        (function.name, StoredFunction { artifact, tree })
    });
    stored.collect()
}

#[test]
fn a_file_becomes_the_document_that_the_api_takes() {
    let file = parsed(WHOLE).unwrap();
    let manifest = serde_json::to_value(file.manifest(&stored(&file)).unwrap()).unwrap();
    assert_eq!(
        manifest["functions"],
        json!({
            "hello": {
                "artifact": "sha256:hello",
                "version": "1.2.0",
                "labels": {"commit": "4be1f0c"},
                "description": "Says hello",
                "settings": {
                    "timeout_ms": 500, "memory_bytes": 67_108_864, "snapshot": true,
                    "environment": {"GREETING": "hello", "A.B": "dots"},
                    "isolation": {"mode": "reuse"},
                    "files": {"tree": "shop/public", "at": "/srv"},
                },
                "channels": {"prod": {
                    "range": "~1.2", "weights": [{"revision": 3, "percent": 10}],
                }},
            },
            "plain": {"artifact": "sha256:plain", "settings": {"files": {"tree": "shop/public"}}},
        })
    );
    assert_eq!(manifest["project"], "shop");
    assert_eq!(manifest["routes"]["users"]["request_bytes"], 1_024);
    assert_eq!(manifest["schedules"]["nightly"]["cron"], "0 3 * * *");
    let steps = &manifest["flows"]["checkout"]["steps"];
    assert_eq!(steps[1]["group"][1]["on_error"]["codes"], json!({"404": "continue"}));
}

#[test]
fn paths_begin_at_the_directory_of_the_manifest() {
    let functions = parsed(WHOLE).unwrap().functions();
    let paths = functions.iter().map(|function| function.artifact.to_str().unwrap());
    assert_eq!(paths.collect::<Vec<_>>(), ["shop/dist/hello.wasm", "/abs/plain.wasm"]);
    let file = ManifestFile::parse(Path::new("mayfly.toml"), WHOLE.to_owned()).ok().unwrap();
    assert_eq!(file.functions()[0].artifact, Path::new("dist/hello.wasm"));
}

/// A function, to whose table a line is added: the fourth of the file.
const FUNCTION: &str = "project = \"shop\"\n[functions.hello]\nartifact = \"a.wasm\"\n";

#[test]
fn a_mistake_in_a_document_has_its_line_and_column() {
    for (text, expected) in [
        ("project = shop", "1:11: string values must be quoted, expected literal string"),
        ("", "1:1: `project` is missing"),
        ("project = \"a\"\nprojct = 1", "2:1: unknown key `projct`; did you mean `project`?"),
        (
            "project = \"a\"\ncolour = 1",
            "2:1: unknown key `colour`; there are `flows`, `functions`, `project`, `queues`, \
             `routes`, `schedules`",
        ),
        ("project = 5", "1:11: project: expected a string, found an integer"),
        ("project = \"a\"\nfunctions = []", "2:13: functions: expected a table, found an array"),
        (
            "project = \"a\"\n[functions.hello]\nversion = \"1.0.0\"",
            "2:12: functions.hello: `artifact` is missing",
        ),
        (
            "project = \"a\"\nfunctions.hello.artifact = \"\"",
            "2:28: functions.hello.artifact: expected a string of at least 1 characters, found 0",
        ),
        (
            "project = \"a\"\n[schedules.x]\nfunction = \"a\"\ncron = \"@daily\"\ncatch_up = \"some\"",
            "5:12: schedules.x.catch_up: expected one of `none`, `last`, `all`, found `some`",
        ),
        (
            "project = \"a\"\n[[flows.x.steps]]\nfunction = \"a\"\n[[flows.x.steps]]\nfunktion = \"a\"",
            "5:1: flows.x.steps[1]: unknown key `funktion`; did you mean `function`?",
        ),
        (
            "project = \"a\"\nflows.x.steps = []",
            "2:17: flows.x.steps: expected an array with 1 to 32 items, found 0",
        ),
    ] {
        assert_eq!(mistake(text), expected, "{text}");
    }
}

#[test]
fn a_mistake_in_a_function_has_its_line_and_column() {
    for (line, expected) in [
        (
            "timout_ms = 5",
            "4:1: functions.hello: unknown key `timout_ms`; did you mean `timeout_ms`?",
        ),
        (
            "whatever = 5",
            "4:1: functions.hello: unknown key `whatever`; `mayfly schema` lists those that there \
             are",
        ),
        (
            "timeout_ms = \"5\"",
            "4:14: functions.hello.timeout_ms: expected an integer, found a string",
        ),
        (
            "timeout_ms = 1.5",
            "4:14: functions.hello.timeout_ms: expected an integer, found a number",
        ),
        ("timeout_ms = 0", "4:14: functions.hello.timeout_ms: expected 1 to 86400000, found 0"),
        (
            "timeout_ms = 9999999999999999999999",
            "4:14: functions.hello.timeout_ms: expected a smaller integer",
        ),
        (
            "timeout_ms = 2026-11-30",
            "4:14: functions.hello.timeout_ms: expected an integer, found a time",
        ),
        (
            "memory_bytes = \"64 apples\"",
            "4:16: functions.hello.memory_bytes: expected a number of bytes such as 67108864 or \
             64MiB",
        ),
        (
            "memory_bytes = \"9999GiB\"",
            "4:16: functions.hello.memory_bytes: expected 1 to 4294967296, found 10736344498176",
        ),
        (
            "files = true",
            "4:9: functions.hello.files: expected a string or a table, found true or false",
        ),
        ("files = { at = \"/\" }", "4:1: functions.hello.files: `path` is missing"),
        (
            "outbound = [\"a.example\", 5]",
            "4:26: functions.hello.outbound[1]: expected a string, found an integer",
        ),
        (
            "isolation = { mode = \"reused\" }",
            "4:22: functions.hello.isolation.mode: expected one of `request`, `reuse`, found \
             `reused`; did you mean `reuse`?",
        ),
        (
            "channels.prod.follow = 5",
            "4:15: functions.hello.channels.prod: unknown key `follow`; there are `canary`, \
             `range`, `revision`, `settings`, `shadow`, `sticky`, `tester_header`, `weights`",
        ),
    ] {
        assert_eq!(mistake(&format!("{FUNCTION}{line}")), expected, "{line}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_their_order() {
    let text = "x = 1\nproject = 2\n[routes.a]\nfunctio = \"a\"\n";
    let found = mistakes(text);
    let places: Vec<&str> = found.iter().map(|line| &line[..3]).collect();
    assert_eq!(places, ["1:1", "2:1", "3:9", "4:1"], "{found:?}");
    let many: String = (0..30).map(|n| format!("wrong-{n} = 1\n")).collect();
    let found = mistakes(&format!("project = \"a\"\n{many}"));
    assert_eq!((found.len(), found[20].as_str()), (21, "and 10 more"));
}

#[test]
fn a_mistake_that_the_gateway_finds_has_its_place_in_the_file() {
    let file = parsed(WHOLE).unwrap();
    for (path, expected) in [
        ("functions.hello.settings.timeout_ms", "10:1"),
        ("functions.hello.settings.environment.A.B", "12:37"),
        ("functions.hello.settings.files.tree", "6:1"),
        ("functions.hello.settings.files.at", "6:28"),
        ("functions.hello.artifact", "5:1"),
        ("functions.hello.channels.prod.weights[0].revision", "18:14"),
        // What the file does not have is shown by what is around it.
        ("functions.hello.settings.cpu_ms", "4:12"),
        ("functions.hello.settings", "4:12"),
        ("functions.hello.channels.prod.revision", "16:27"),
        ("routes.users.function", "26:1"),
        ("flows.checkout.steps[1].group[1].on_error.codes.404", "42:71"),
        ("flows.checkout.steps[7]", "38:18"),
        ("routes.gone", "24:2"),
        ("nothing", "1:1"),
        ("", "1:1"),
    ] {
        let told = file.told(path, "wrong");
        assert_eq!(told, format!("shop/mayfly.toml:{expected}: {path}: wrong"));
    }
}

#[test]
fn a_file_that_is_no_manifest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let read = |path: &Path| ManifestFile::read(path).err().unwrap().text();
    assert!(read(&dir.path().join("gone.toml")).contains("No such file"));
    let file = dir.path().join("mayfly.toml");
    fs::write(&file, b"project = \"\xff\"").unwrap();
    assert!(read(&file).contains("reading "), "{}", read(&file));
    fs::File::create(&file).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    assert!(read(&file).contains("is it a manifest?"), "{}", read(&file));
    let deep = format!("project = {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(mistake(&deep).starts_with("1:"), "{}", mistake(&deep));
}

proptest! {
    #[test]
    fn any_text_is_a_manifest_or_has_mistakes(text in ".*") {
        let _ = parsed(&text);
    }

    /// Lines of a manifest in any order, with anything in their values.
    #[test]
    fn any_document_is_a_manifest_or_has_mistakes(
        lines in prop::collection::vec((prop::sample::select(WHOLE.lines().collect::<Vec<_>>()), "[0-9a-z\"\\[\\]{}.=, ]{0,12}"), 0..12),
        path in "(functions|routes|flows|x)?([.\\[\\]a-z0-9]|hello|settings|steps){0,8}",
    ) {
        let text: String = lines
            .iter()
            .map(|(line, other)| match line.split_once(" = ") {
                Some((key, _)) if !other.is_empty() => format!("{key} = {other}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        if let Ok(file) = parsed(&text) {
            let _ = file.manifest(&stored(&file));
            prop_assert!(file.told(&path, "x").starts_with("shop/mayfly.toml:"));
        }
    }
}
