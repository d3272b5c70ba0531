//! A component that runs as its core module answers as it does through the engine's component layer.

use std::fs;

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::{FullResponse, eventually},
    test_gateway::TestGateway,
};

/// Guests of one module, each with requests.
const GUESTS: [(&str, &[&str]); 25] = [
    ("c-hello", &[""]),
    ("hello", &[""]),
    ("echo", &["", "path?and=query"]),
    ("fetch", &["", "?url=http://127.0.0.1:1/"]),
    ("sse", &["?events=2&every=1"]),
    ("table", &["", "?rows=3"]),
    ("t-after", &["", "?ms=1"]),
    (
        "t-answers",
        &[
            "",
            "told?a=%20",
            "?status=404&header=x-a:1&header=x-a:2&bytes=5",
            "?status=99",
            "?status=200&header=content-length:3&bytes=5",
            "?header=content-length:5&bytes=3",
            "?trailer=x-t:1&bytes=100000",
            "?header=bad%20name:1",
            "?header=connection:close",
            "?header=te",
            "?end=exit&bytes=3",
            "?end=early&bytes=3",
            "?wait=1&bytes=2",
        ],
    ),
    ("t-axum", &["", "no-such-path"]),
    ("t-big", &["", "?bytes=100000"]),
    ("t-env", &["", "?name=GREETING"]),
    ("t-exit", &[""]),
    ("t-headers", &["", "?count=3", "?bytes=100000"]),
    ("t-hostile", &HOSTILE),
    ("t-logs", &["", "?lines=3"]),
    ("t-loop", &[""]),
    ("t-memory", &["", "?mib=1", "?mib=1000"]),
    ("t-no-response", &[""]),
    ("t-outbound", &["?to=http://127.0.0.1:1/", "?url=http://example.test/"]),
    ("t-read", &["", "?bytes=3"]),
    ("t-recurse", &[""]),
    ("t-sleep", &["?ms=1"]),
    ("t-trap", &[""]),
    ("t-trap-mid", &[""]),
    ("t-work", &["", "?ms=1"]),
];

const HOSTILE: [&str; 25] = [
    "exit",
    "fields",
    "fields?list=500",
    "fields?list=100000",
    "forbidden",
    "kept-appended?n=3",
    "kept-set?n=3",
    "kept-listed?n=3",
    "kept-copied?n=3",
    "kept-paths?n=3",
    "kept-methods?n=3",
    "kept-requests?n=3",
    "kept-responses?n=3",
    "kept-headers?n=3",
    "length",
    "list",
    "log?lines=3",
    "log?raw=a%1b[2Jb%0dline%0a",
    "operations?n=1000&seed=7",
    "panic",
    "pathless?n=3",
    "random?bytes=100",
    "random?bytes=100000000",
    "resources?pollables=1",
    "trap",
];

/// What a caller sees that is the same each time.
#[derive(Debug, PartialEq)]
struct Seen {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Seen {
    fn of(answer: &FullResponse) -> Self {
        let id = answer.header("mayfly-request-id").unwrap_or("none");
        let headers = answer
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes())))
            .filter(|(name, _)| !["date", "server-timing", "mayfly-request-id"].contains(&&**name))
            .map(|(name, value)| (name, value.replace(id, "ID")))
            .collect();
        let body = String::from_utf8_lossy(answer.bytes()).replace(id, "ID");
        Self { status: answer.status(), headers, body }
    }
}

/// Sends a request with a body. None if the connection breaks before the whole answer.
async fn ask(gateway: &TestGateway, target: &str) -> Option<Seen> {
    let request = gateway.call(Method::POST, target).header("host", "a.test").body("a body");
    request.try_send().await.ok().map(|answer| Seen::of(&answer))
}

/// The lines of a function's log, without the guest's stack, whose frames differ.
async fn log(gateway: &TestGateway, name: &str) -> Vec<String> {
    let answer = gateway.api(&format!("/v1/functions/{name}/logs?limit=1000")).await;
    let lines = answer.json()["lines"].as_array().unwrap().clone();
    let text = |line: &Value| line["line"].as_str().unwrap().to_owned();
    lines.iter().map(text).filter(|line| !is_frame(line)).collect()
}

fn is_frame(line: &str) -> bool {
    let line = line.trim_start();
    line.split_once(':').is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

/// Case G39.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_answer_the_same_as_core_modules_and_as_components() {
    let limits = ["pool.core_modules=true", "pool.core_modules=false"];
    let gateways = [
        TestGateway::with(&[limits[0], "quotas.compiles_per_minute=1000"]).await,
        TestGateway::with(&[limits[1], "quotas.compiles_per_minute=1000"]).await,
    ];
    let [core, component] = &gateways;
    let settings = json!({ "cpu_ms": 1000, "timeout_ms": 20_000 });
    let mut written = 0;
    for (name, targets) in GUESTS {
        tokio::join!(core.deploy_with(name, &settings), component.deploy_with(name, &settings));
        for target in targets {
            let target = format!("/f/{name}/{target}");
            let (left, right) = tokio::join!(ask(core, &target), ask(component, &target));
            assert_eq!(left, right, "{target}");
        }
        let lines = eventually("both logs have the same lines", async || {
            let (left, right) = tokio::join!(log(core, name), log(component, name));
            (left == right).then_some(left)
        });
        written += lines.await.len();
    }
    assert!(written > 30, "{written} lines");
    assert_eq!(compiled_as(core), (GUESTS.len(), 0));
    assert_eq!(compiled_as(component), (0, GUESTS.len()));
}

/// How many files of native code are of core modules, and how many of components.
fn compiled_as(gateway: &TestGateway) -> (usize, usize) {
    let is_core_module =
        |seal: &[u8]| seal.windows(18).any(|bytes| bytes == br#""core_module":true"#);
    let seals = gateway.files("code").into_iter().filter_map(|file| fs::read(file).ok());
    let seals: Vec<_> = seals.filter(|file| file.starts_with(br#"{"inspection""#)).collect();
    let core_modules = seals.iter().filter(|seal| is_core_module(seal)).count();
    (core_modules, seals.len() - core_modules)
}

#[tokio::test]
async fn a_change_of_the_setting_compiles_functions_anew() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    assert_eq!(compiled_as(&gateway), (1, 0));
    gateway.terminate();
    gateway.exit().await;
    gateway.start_with(&["pool.core_modules=false"]).await;
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    assert_eq!(compiled_as(&gateway), (1, 1));
}
