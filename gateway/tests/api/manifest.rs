//! `mayfly apply`, `mayfly diff` and `mayfly schema`, where no gateway is needed.

mod projects;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::{
    openapi::schemathesis,
    test_gateway::{mayfly, run},
};

const SHOP: &str = r#"
project = "shop"

[functions.hello]
artifact = "hello.wasm"
timeout_ms = 2000
memory_bytes = "64MiB"
environment = { PASSWORD = "hunter2" }

[functions.hello.channels.prod]
revision = 1

[routes.hello]
path = "/hello"
function = "hello"
strip = true

[schedules.nightly]
function = "hello"
cron = "@daily"

[queues.orders]
function = "hello"

[flows.checkout]
steps = [{ function = "hello" }]
"#;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What needs no gateway: there is none.
async fn alone(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = mayfly(arguments);
    command.current_dir(dir);
    run(command).await
}

/// Case J06.
#[tokio::test]
async fn all_mistakes_of_a_file_are_told_before_a_gateway_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mayfly.toml");
    let wrong = "project = \"shop\"\n[function.a]\n[functions.b]\nartifact = 5\ntimout_ms = 1\n";
    fs::write(&file, wrong).unwrap();
    for command in ["apply", "diff"] {
        let output = alone(dir.path(), &[command]).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(
            text(&output.stderr),
            "error: mayfly.toml:2:2: unknown key `function`; did you mean `functions`?\n  \
             mayfly.toml:4:12: functions.b.artifact: expected a string, found an integer\n  \
             mayfly.toml:5:1: functions.b: unknown key `timout_ms`; did you mean `timeout_ms`?\n"
        );
    }
    let missing = "project = \"shop\"\n[functions.a]\nartifact = \"gone.wasm\"\nfiles = \"gone\"\n";
    fs::write(&file, missing).unwrap();
    let output = alone(Path::new("/"), &["diff", file.to_str().unwrap()]).await;
    let told = text(&output.stderr).replace(&format!("{}/", dir.path().display()), "");
    assert_eq!(
        told,
        "error: mayfly.toml:3:1: functions.a.artifact: reading gone.wasm: No such file or directory \
         (os error 2)\n  mayfly.toml:4:1: functions.a.files: gone is no directory\n"
    );
    fs::remove_file(&file).unwrap();
    let output = alone(dir.path(), &["apply"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("reading mayfly.toml: No such file"), "{output:?}");
}

/// Checks TOML files against a schema with an implementation that is not ours, and prints a line for
/// each: its number of mistakes.
const VALIDATE: &str = "
import json, sys, tomllib, jsonschema_rs
schema = json.load(open(sys.argv[1]))
validator = jsonschema_rs.Draft202012Validator(schema)
for name in sys.argv[2:]:
    print(len(list(validator.iter_errors(tomllib.load(open(name, 'rb'))))))
";

/// Case J07.
#[tokio::test]
async fn another_validator_finds_what_the_schema_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let output = alone(dir.path(), &["schema"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    fs::write(dir.path().join("schema.json"), &output.stdout).unwrap();
    let of_docs =
        include_str!("../../../docs/manifest.md").split("```toml file=mayfly.toml\n").nth(1);
    let of_docs = of_docs.unwrap().split("```").next().unwrap();
    let hello = "project = \"a\"\n[functions.a]\nartifact = \"a.wasm\"\n";
    let mut files = Vec::new();
    for (text, mistakes) in [
        (SHOP, 0),
        (of_docs, 0),
        (hello, 0),
        (&format!("{hello}files = \"public\"\nmemory_bytes = 5\nsnapshot = true"), 0),
        (&format!("{hello}channels.prod.settings.environment.A = \"1\""), 0),
        ("", 1),
        (&format!("{hello}timout_ms = 5"), 1),
        (&format!("{hello}timeout_ms = \"5\""), 1),
        (&format!("{hello}timeout_ms = 0"), 1),
        (&format!("{hello}memory_bytes = \"64 apples\""), 1),
        (&format!("{hello}files = {{ at = \"/\" }}"), 1),
        (&format!("{hello}isolation.mode = \"reused\""), 1),
        (&format!("{hello}[queues.a]\nbatch_size = 101\nfuction = \"a\""), 2),
    ] {
        let file = dir.path().join(format!("{}.toml", files.len()));
        fs::write(&file, text).unwrap();
        // Ours agrees, as far as it says that there are mistakes.
        let ours = alone(dir.path(), &["diff", file.to_str().unwrap()]).await;
        let told = mistakes_in(&ours, &file);
        assert_eq!(told, mistakes, "{text}: {ours:?}");
        files.push((file, mistakes));
    }
    let mut python = Command::new(schemathesis().with_file_name("python"));
    python.env_clear().args(["-c", VALIDATE]).arg(dir.path().join("schema.json"));
    python.args(files.iter().map(|(file, _)| file));
    let output = run(python).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let found: Vec<usize> =
        text(&output.stdout).lines().map(|line| line.parse().unwrap()).collect();
    let expected: Vec<usize> = files.iter().map(|(_, mistakes)| *mistakes).collect();
    assert_eq!(found, expected);
}

/// How many mistakes of a file were told, other than artifacts that are not there.
fn mistakes_in(output: &Output, file: &Path) -> usize {
    let place = format!("{}:", file.display());
    let told = text(&output.stderr).lines().filter(|line| line.contains(&place));
    told.filter(|line| !line.contains("No such file") && !line.contains("is no directory")).count()
}
