//! `mayfly bench`: measurements of real functions by the real binary, and the comparison gate.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    guests::path,
    test_gateway::{TestGateway, mayfly, run},
};

/// Few samples: the regression that these tests look for is a hundred times the machine's noise.
const QUICK: [&str; 4] = ["--iterations", "6", "--seconds", "1"];
/// Iterations of a loop that keeps a guest busy for many milliseconds. Without the loop, a start
/// takes well under one.
const SEEDED_TURNS: u32 = 50_000_000;

/// A CGI program that counts to `turns` before it responds.
fn guest_that_counts(turns: u32) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (global $turn (mut i32) (i32.const 0))
          ;; One buffer: the address and the length of the text behind it.
          (data (i32.const 0) "\08\00\00\00\1d\00\00\00content-type: text/plain\n\nhey")
          (func (export "_start")
            (loop $again
              (global.set $turn (i32.add (global.get $turn) (i32.const 1)))
              (br_if $again (i32.lt_u (global.get $turn) (i32.const {turns}))))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))))"#
    );
    wat::parse_str(text).unwrap()
}

/// Guest files of the same name in separate directories.
struct GuestFiles(TempDir);

impl GuestFiles {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn counting(&self, dir: &str, turns: u32) -> PathBuf {
        let dir = self.path(dir);
        std::fs::create_dir(&dir).unwrap();
        let file = dir.join("guest.wasm");
        std::fs::write(&file, guest_that_counts(turns)).unwrap();
        file
    }

    /// Measures `guest` and returns the path of the report.
    async fn measure(&self, guest: &Path, json: &str) -> PathBuf {
        let json = self.path(json);
        let files = ["--json", text(&json), text(guest)];
        let tiers = ["cold-start", "--tiers", "cold,loaded"];
        let output = bench(&[&tiers, &QUICK[..], &files].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        json
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn bench(arguments: &[&str]) -> Output {
    run(mayfly(&[&["bench"], arguments].concat())).await
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

async fn compare(old: &Path, new: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = bench(&[&["compare", text(old), text(new)], more].concat()).await;
    (output.status.code(), said(&output))
}

#[tokio::test]
async fn the_gate_passes_equal_results_and_fails_a_seeded_regression() {
    let guests = GuestFiles::new();
    let as_ever = guests.counting("as-ever", 1);
    let old = guests.measure(&as_ever, "old.json").await;
    let again = guests.measure(&as_ever, "again.json").await;
    let slow = guests.measure(&guests.counting("seeded", SEEDED_TURNS), "slow.json").await;

    let (code, table) = compare(&old, &old, &[]).await;
    assert_eq!((code, table.matches("no change").count()), (Some(0), 2), "{table}");
    // Two runs of one guest. The machine may have been busy during one of them.
    let (code, table) = compare(&old, &again, &["--threshold", "900%"]).await;
    assert_eq!(code, Some(0), "{table}");

    let (code, table) = compare(&old, &slow, &["--threshold", "900%"]).await;
    assert_eq!((code, table.matches("worse").count()), (Some(1), 2), "{table}");
    let (code, table) = compare(&slow, &old, &["--threshold", "900%"]).await;
    assert_eq!((code, table.matches("better").count()), (Some(0), 2), "{table}");
    let (code, _) = compare(&old, &slow, &["--fail-on", "nothing"]).await;
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn every_tier_is_measured_with_its_phases() {
    let guests = GuestFiles::new();
    let (json, component) = (guests.path("all.json"), path("c-hello"));
    let module = guests.counting("module", 1);
    let files = [text(&component), text(&module), "--json", text(&json)];
    let output = bench(&[&["cold-start"], &QUICK[..], &files].concat()).await;
    let table = said(&output);
    assert_eq!(output.status.code(), Some(0), "{table}");
    for (name, tier) in [("c-hello", "frozen"), ("c-hello", "warm"), ("guest", "cold")] {
        let mut lines = table.lines();
        let found = lines.any(|line| line.starts_with(name) && line.contains(tier));
        assert!(found, "{name} {tier}: {table}");
    }
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let shown: Vec<_> = rows.iter().map(|row| (&row["name"], &row["tier"], &row["kind"])).collect();
    let row = |index: usize| shown[index];
    assert_eq!(shown.len(), 8);
    assert_eq!(row(0), (&"c-hello".into(), &"frozen".into(), &"wasi-http-0.2".into()));
    assert_eq!(row(6), (&"guest".into(), &"loaded".into(), &"wasi-preview1".into()));
    for row in rows {
        assert_eq!(row["rounds_us"].as_array().unwrap().len(), 6, "{row}");
        let phases = row["phases"].as_array().unwrap();
        let has = |name: &str| phases.iter().any(|phase| phase["name"] == name);
        assert!(has("guest") && has("link") == has("load"), "{row}");
        assert_eq!(has("compile"), row["tier"] == "frozen", "{row}");
        assert_eq!(has("instantiate"), row["tier"] != "warm", "{row}");
    }
}

#[tokio::test]
async fn a_function_of_a_gateway_is_measured_with_its_settings() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-sleep", &serde_json::json!({"timeout_ms": 100})).await;
    let arguments = ["bench", "cold-start", "--function", "t-sleep", "--tiers", "loaded"];
    let arguments = [&arguments, &QUICK[..]].concat();
    let output = gateway.cli(&[&arguments[..], &["--path", "/?ms=0"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said(&output).contains("t-sleep  loaded"), "{output:?}");

    // A file would be measured with the default limits, which allow a sleep of that length.
    let output = gateway.cli(&[&arguments[..], &["--path", "/?ms=5000"]].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("t-sleep: "), "{output:?}");

    let unknown = gateway.cli(&["bench", "cold-start", "--function", "no-such-function"]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(said(&unknown).contains("no-such-function"), "{unknown:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_measured_or_compared_is_named() {
    let guests = GuestFiles::new();
    let (text_file, trap) = (guests.path("text.wasm"), path("t-start-trap"));
    std::fs::write(&text_file, "no wasm").unwrap();
    let (hello, text_file) = (path("c-hello"), text(&text_file));
    let measure = |file| ["cold-start", file, "--iterations", "6"];
    for (arguments, code, says) in [
        (&measure("/nowhere.wasm")[..], 1, "/nowhere.wasm"),
        (&measure(text_file), 1, "text: the upload is text"),
        (&measure(text(&trap)), 1, "t-start-trap: an instance cannot be made of it"),
        (&["cold-start", text(&hello), text(&hello)], 2, "`c-hello` is named twice"),
        (&["compare", text_file, text_file], 2, "is no measurement"),
        (&["compare", "/nowhere.json", text_file], 2, "/nowhere.json"),
        (&["compare", text_file], 2, "<NEW>"),
    ] {
        let output = bench(arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(said(&output).contains(says), "{arguments:?}: {says}: {output:?}");
    }
}

#[tokio::test]
async fn only_a_200_is_measured() {
    let output = bench(&["cold-start", text(&path("t-status")), "--path", "/?status=404"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("only a 200 is measured"), "{output:?}");
}
