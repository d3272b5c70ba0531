//! Names, paths and headers of uploads.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use futures_util::{StreamExt as _, stream};
use http::Method;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::repetitions;
use crate::{crash::Strace, guests::guest, test_gateway::TestGateway};

/// Percent-encodes every byte with a meaning in a path, and every byte that a path must not
/// contain.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            text.push(byte.into());
        } else {
            write!(text, "%{byte:02x}").unwrap();
        }
    }
    text
}

fn is_a_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && name.as_bytes()[0].is_ascii_lowercase()
        && !name.ends_with('-')
}

/// Typical names of an attack, and random ones.
fn hostile_names(count: u32) -> Vec<String> {
    let pieces = prop_oneof![
        "[a-z0-9-]{0,70}",
        "\\PC{0,40}",
        "[./%\\\\:;?#&=\u{0}\u{202e}a]{1,30}",
        Just("../".repeat(8) + "etc/passwd"),
        Just("%2e%2e%2f".to_owned()),
        Just("\u{202e}gnp.exe".to_owned()),
        Just("CON".to_owned()),
        Just("-rf".to_owned()),
        Just("a\0b".to_owned()),
        Just("a".repeat(10_000)),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just(" ".to_owned()),
    ];
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[13; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut names = Vec::new();
    while names.len() < count as usize {
        let name = pieces.new_tree(&mut runner).unwrap().current();
        if !is_a_name(&name) {
            names.push(name);
        }
    }
    names
}

/// Case U13.
#[tokio::test]
async fn no_hostile_name_becomes_a_function_or_a_path() {
    let gateway = TestGateway::start().await;
    let before = gateway.files("");
    let wasm = bytes::Bytes::from(guest("c-hello"));
    let names = hostile_names(repetitions(1_000, 5_000));
    let uploads = names.iter().map(|name| {
        let call = gateway.put(&escaped(name), wasm.clone());
        async move { (name, call.send().await) }
    });
    let answers: Vec<_> = stream::iter(uploads).buffer_unordered(16).collect().await;
    for (name, answer) in answers {
        // The client resolves `.` and `..` itself; an empty name is another resource.
        let refused = matches!(answer.status(), 400 | 404 | 405 | 414);
        assert!(refused, "{name:?}: {answer:?}");
    }
    assert_eq!(gateway.api("/v1/functions").await.json()["functions"], serde_json::json!([]));
    assert_eq!(gateway.files("artifacts"), [] as [PathBuf; 0]);
    gateway.no_uploads_left().await;
    let mut after = gateway.files("");
    after.retain(|file| !before.contains(file));
    // The databases create and remove files beside them.
    after.retain(|file| !file.to_str().unwrap().contains(".db-"));
    assert_eq!(after, [] as [PathBuf; 0]);
}

/// The quoted strings in a line of `strace`.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// Whether a path below the data directory consists of the gateway's own words and hexadecimal
/// names.
fn is_ours(path: &str) -> bool {
    path.split('/').all(|part| {
        let (name, _) = part.split_once('.').unwrap_or((part, ""));
        matches!(part, "" | "tmp" | "artifacts" | "code" | "admin.token" | "secrets.key" | "lock")
            || matches!(name, "mayfly" | "logs")
            || name.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Case U13.
#[tokio::test]
async fn no_hostile_name_reaches_a_system_call_as_a_path() {
    let gateway = TestGateway::start().await;
    let wasm = bytes::Bytes::from(guest("c-hello"));
    let names = hostile_names(1_000);
    // The calls with a path, except for starting the compiler. Some do not exist on every machine.
    let calls = "trace=?open,openat,?creat,?mkdir,mkdirat,?rename,?renameat,renameat2,?unlink,\
                 unlinkat,?link,linkat,symlinkat,?stat,newfstatat,statx,?access,faccessat,truncate";
    let strace = Strace::attach(gateway.pid(), &[calls], None).await;
    let uploads = names.iter().map(|name| gateway.put(&escaped(name), wasm.clone()).send());
    stream::iter(uploads).buffer_unordered(16).for_each(async |_| ()).await;
    // A valid name, so that the trace is not empty.
    assert_eq!(gateway.put("good-name", wasm).send().await.status(), 201);
    let seen = strace.detach();
    let data = gateway.data_dir();
    let mut ours = 0;
    for line in &seen {
        for path in paths(line) {
            if let Ok(path) = Path::new(path).strip_prefix(&data) {
                assert!(is_ours(path.to_str().unwrap()), "{line}");
                ours += 1;
            } else {
                let elsewhere = ["/proc/", "/sys/", "/dev/", "/etc/", "/lib", "/usr/"];
                let known = elsewhere.iter().any(|start| path.starts_with(start));
                // Or a parent of the data directory.
                assert!(known || data.starts_with(path), "{line}");
            }
        }
    }
    assert!(ours > 3, "{seen:?}");
    assert!(!seen.iter().any(|line| line.contains("good-name")));
}

/// Case U14.
#[tokio::test]
async fn a_form_is_not_an_upload() {
    let gateway = TestGateway::start().await;
    let part = "--x\r\ncontent-disposition: form-data; name=f; filename=\"../../x\"\r\n\r\nasm\r\n";
    let mut form = part.repeat(10_000);
    form.push_str("--x--\r\n");
    for kind in ["multipart/form-data; boundary=x", "multipart/form-data", "multipart/mixed"] {
        let put = gateway.control(Method::PUT, "/v1/functions/f").header("content-type", kind);
        let refused = put.body(form.clone()).send().await;
        assert_eq!(refused.problem(), (415, "unsupported-media-type"), "{kind}");
    }
    // Sent as wasm, a form is an upload like any other.
    let refused = gateway.put("f", form).send().await;
    assert_eq!(refused.problem(), (422, "invalid-wasm"));
    gateway.no_uploads_left().await;
    assert_eq!(gateway.files("artifacts"), [] as [PathBuf; 0]);
}

/// Case U07.
#[tokio::test]
async fn a_compressed_upload_is_refused_and_never_decompressed() {
    let gateway = TestGateway::start().await;
    // The beginning of a stream that would decompress to a gigabyte of zeros.
    let bomb = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0xed; 1 << 20]].concat();
    let all = async || {
        for encoding in ["gzip", "zstd", "br", "deflate", "gzip, gzip", "x"] {
            let put = gateway.put("f", bomb.clone()).header("content-encoding", encoding);
            let refused = put.send().await;
            assert_eq!(refused.problem(), (415, "unsupported-content-encoding"), "{encoding}");
        }
        let refused = gateway.put("f", bomb.clone()).send().await;
        assert_eq!(refused.problem(), (422, "invalid-wasm"));
        assert!(refused.detail().contains("gzip"), "{refused:?}");
    };
    all().await;
    let before = gateway.resident_bytes();
    for _ in 0..4 {
        all().await;
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "the gateway grew by {grown} bytes");
}

/// Case U05.
#[tokio::test]
async fn an_upload_is_refused_for_its_declared_length() {
    let gateway = TestGateway::start().await;
    let (_pieces, put) = gateway.control(Method::PUT, "/v1/functions/f").pieces();
    let refused = put.header("content-length", "10737418240").send().await;
    assert_eq!(refused.problem(), (413, "artifact-too-large"));
    assert!(refused.json()["hint"].as_str().unwrap().contains("uploads.artifact_bytes"));
    gateway.no_uploads_left().await;
}
