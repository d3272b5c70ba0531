//! `mayfly check`, with guests of every kind and with files that are none.

use std::process::{Command, Output};

use serde_json::Value;

use crate::{guests::path, test_gateway::MAYFLY};

fn check(arguments: &[&str]) -> Output {
    Command::new(MAYFLY).arg("check").args(arguments).env_clear().output().unwrap()
}

fn checked(guest: &str) -> Value {
    let path = path(guest);
    let output = check(&[path.to_str().unwrap(), "--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn guests_of_every_kind_can_be_deployed() {
    for (guest, kind) in [
        ("hello", "wasi-http-0.2"),
        ("hello-p3", "wasi-http-0.3"),
        ("hello-command", "wasi-command"),
        ("c-hello-cgi", "wasi-preview1"),
        ("js-hello", "wasi-http-0.2"),
        ("go-hello", "wasi-preview1"),
    ] {
        let checked = checked(guest);
        assert_eq!(checked["kind"], kind, "{guest}");
        assert_eq!(checked["deployable"], true, "{guest}");
        assert!(checked["memory_bytes"].as_u64().unwrap() >= 64 << 10, "{guest}");
        let imports = checked["imports"].as_array().unwrap();
        assert!(imports.iter().all(|import| import["provided"] == true), "{guest}: {imports:?}");
        let unknown =
            imports.iter().find(|import| import["means"] == "something that is not known here");
        assert_eq!(unknown, None, "{guest}");
    }
}

#[test]
fn the_text_says_what_a_guest_uses_and_how_to_deploy_it() {
    let fetch = path("fetch");
    let output = check(&[fetch.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "kind         wasi-http-0.2: a component that answers HTTP requests",
        "made with    wit-component ",
        "requests to other servers                   with the setting `outbound`",
        "mayfly deploy --name NAME --allow-host HOST ",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn starts_are_measured_when_asked_for() {
    assert_eq!(checked("c-hello-cgi")["starts_us"], Value::Null);
    let hello = path("c-hello-cgi");
    let output = check(&[hello.to_str().unwrap(), "--measure", "--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [frozen, cold, loaded] = ["frozen", "cold", "loaded"]
        .map(|tier| checked["starts_us"][tier].as_f64().unwrap_or_else(|| panic!("{checked}")));
    assert!(frozen > cold && cold > loaded && loaded > 0.0, "{checked}");

    // What does not start is not measured, and that is said.
    let trap = path("t-start-trap");
    let output = check(&[trap.to_str().unwrap(), "--measure"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("error: t-start-trap: "), "{told}");
    assert!(told.contains("hint: `mayfly bench cold-start` measures other requests"), "{told}");
}

#[test]
fn what_cannot_be_deployed_fails_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.wasm");
    let blobs = r#"(component (import "wasi:blobstore/container@0.2.0-draft" (instance))
        (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#;
    for (bytes, expected) in [
        (b"#!/bin/sh".to_vec(), "cannot be deployed: the upload is a script, not a wasm binary"),
        (
            b"\0asm\x01\0\0\0".to_vec(),
            "cannot be deployed: it is a core module that exports nothing",
        ),
        (
            wat::parse_str(blobs).unwrap(),
            "a store of files  no        wasi:blobstore/container@0.2.0-draft",
        ),
    ] {
        std::fs::write(&file, &bytes).unwrap();
        let output = check(&[file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let missing = check(&["no-such-file.wasm"]);
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    assert!(missing.stdout.is_empty());
}
