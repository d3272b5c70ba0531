//! Programs that people use as clients, and answers that come before the whole body.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::test_gateway::{TestGateway, run};

/// The bodies: more than fits into the buffers of a stream, and more than those of a connection.
const SIZES: [usize; 2] = [300_000, 4 << 20];
/// What the function answers without reading.
const ANSWER: &str = "hello from rust\n";

/// How often each client tries; with `MAYFLY_LONG=1` more often, and all clients must be there.
fn is_long() -> bool {
    std::env::var_os("MAYFLY_LONG").is_some_and(|value| value == "1")
}

fn tries() -> String {
    if is_long() { "15" } else { "3" }.to_owned()
}

fn is_there(program: &Path) -> bool {
    let found = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let is_there = found.is_ok_and(|output| output.status.success());
    assert!(is_there || !is_long(), "this test needs {} (functions/build test)", program.display());
    is_there
}

/// Runs a client. Its environment names no proxy.
async fn succeeds(mut command: Command) -> String {
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name).env_remove(name.to_ascii_uppercase());
    }
    let said = format!("{command:?}");
    let output = run(command).await;
    assert!(output.status.success(), "{said}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn gateway() -> (TestGateway, String) {
    let gateway = TestGateway::start().await;
    gateway.deploy("hello").await;
    let url = format!("http://{}/f/hello/", gateway.data());
    (gateway, url)
}

/// Case H14.
#[tokio::test]
async fn curl_reads_answers_that_come_before_it_has_sent_the_body() {
    let curl = Path::new("curl");
    if !is_there(curl) {
        return;
    }
    let http2 = has_sound_http2(curl);
    let (_gateway, url) = gateway().await;
    let dir = tempfile::tempdir().unwrap();
    let body = dir.path().join("body");
    for bytes in SIZES {
        fs::write(&body, vec![7; bytes]).unwrap();
        // With the expectation that it adds to large bodies, and without.
        for expect in ["expect: 100-continue", "expect:"] {
            let post = |version: &str| {
                let mut command = Command::new(curl);
                command.args(["--silent", "--show-error", "--fail", "--max-time", "60"]);
                command.args([version, url.as_str(), "--header", expect, "--data-binary"]);
                command.arg(format!("@{}", body.display()));
                command
            };
            for _ in 0..tries().parse().unwrap() {
                assert_eq!(succeeds(post("--http1.1")).await, ANSWER, "{bytes} {expect}");
                if http2 {
                    let answer = succeeds(post("--http2-prior-knowledge")).await;
                    assert_eq!(answer, ANSWER, "{bytes} {expect}");
                }
            }
        }
    }
    if !http2 {
        let mut command = Command::new(curl);
        command.args(["--silent", "--max-time", "2", "--http2-prior-knowledge", &url]);
        command.arg("--data-binary").arg(format!("@{}", body.display()));
        let output = run(command).await;
        assert_eq!(String::from_utf8(output.stdout).unwrap(), ANSWER);
    }
}

/// Whether curl ends after an early answer over HTTP/2. Before version 8.2 it writes the whole
/// answer, but then waits for ever to send more, without reading that it may or need not (its issue
/// 7821).
fn has_sound_http2(curl: &Path) -> bool {
    let output = Command::new(curl).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let version = text.strip_prefix("curl ").unwrap().split(' ').next().unwrap();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap());
    (parts.next().unwrap(), parts.next().unwrap()) >= (8, 2)
}

/// Runs a script of this directory, which tries with each size.
async fn script(interpreter: &Path, name: &str) {
    let (_gateway, url) = gateway().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/hostile_clients").join(name);
    for bytes in SIZES {
        let mut command = Command::new(interpreter);
        command.arg(&script).args([&url, &bytes.to_string(), &tries(), ANSWER]);
        succeeds(command).await;
    }
}

/// Case H14. Its modules `http` and `http2`, and `fetch`.
#[tokio::test]
async fn node_reads_answers_that_come_before_it_has_sent_the_body() {
    let node = Path::new("node");
    if is_there(node) {
        script(node, "uploads.js").await;
    }
}

/// Case H14. HTTP/1.1 and HTTP/2.
#[tokio::test]
async fn httpx_reads_answers_that_come_before_it_has_sent_the_body() {
    let python = httpx();
    if is_there(&python) {
        script(&python, "uploads.py").await;
    }
}

/// The interpreter with the library that `functions/build test` has installed.
fn httpx() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions/.cache/httpx/bin/python")
}
