//! Guests that flood their logs.

use std::{sync::Arc, time::Instant};

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use super::{GuestWatch, times};
use crate::{client::eventually, test_gateway::TestGateway};

const MIB: u64 = 1 << 20;

/// The lines of a function's log: those of its guests, and those of the platform.
async fn lines(gateway: &TestGateway, name: &str) -> (Vec<String>, Vec<String>) {
    let log = gateway.api(&format!("/v1/functions/{name}/logs?limit=1000")).await;
    let text = |line: &Value| line["line"].as_str().unwrap().to_owned();
    let lines = log.json()["lines"].as_array().unwrap();
    let (system, own): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["stream"] == "system");
    (own.into_iter().map(text).collect(), system.into_iter().map(text).collect())
}

/// Case G21.
#[tokio::test]
async fn a_flood_of_output_is_dropped_and_counted_to_the_byte() {
    let gateway = Arc::new(TestGateway::start().await);
    for name in ["t-hostile", "t-hostile-p3", "t-hostile-cgi"] {
        gateway.deploy_with(name, &json!({"cpu_ms": 30_000, "timeout_ms": 300_000})).await;
        // Memory that is allocated once is allocated here.
        gateway.get(&format!("/f/{name}/none")).await;
    }
    let watch = GuestWatch::begin(&gateway).await;
    let bytes = times(20 << 20, 1 << 30) / 4_000 * 4_000;
    let mut dropped = 0.0;
    for (name, target, written) in [
        ("t-hostile", format!("log?bytes={bytes}"), bytes),
        ("t-hostile-p3", "log?n=10000".to_owned(), 1_000_000),
        ("t-hostile-cgi", "log".to_owned(), 1_000_000),
    ] {
        gateway.get(&format!("/f/{name}/{target}")).await;
        let said = async || {
            let (own, system) = lines(&gateway, name).await;
            system.iter().any(|line| line.contains("log_bytes")).then_some(own)
        };
        let kept: usize = eventually("the log reports the dropped output", said)
            .await
            .iter()
            .map(|l| l.len() + 1)
            .sum();
        assert!((60 << 10..=64 << 10).contains(&kept), "{name}: {kept}");
        dropped += (written - kept) as f64;
        assert_eq!(gateway.metric("mayfly_log_bytes_dropped_total").await, dropped, "{name}");
    }
    assert!(watch.grown_bytes() < 8 * MIB, "{}", watch.grown_bytes());
    // The last guest wrote no response: its output went to standard error.
    watch.end(&[("ok", 2), ("no-response", 1)]).await;
}

/// Case G21.
#[tokio::test]
async fn empty_writes_and_empty_lines_are_limited() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy_with("t-hostile", &json!({"cpu_ms": 30_000})).await;
    let watch = GuestWatch::begin(&gateway).await;
    let nothing = times(300_000, 10_000_000);
    let answer = gateway.get(&format!("/f/t-hostile/log?nothing={nothing}")).await;
    assert_eq!(answer.plain(), (200, "logged\n"));
    assert_eq!(gateway.metric("mayfly_log_bytes_dropped_total").await, 0.0);

    let answer = gateway.get("/f/t-hostile/log?lines=200000").await;
    assert_eq!(answer.plain(), (200, "logged\n"));
    let dropped = gateway.metric("mayfly_log_bytes_dropped_total").await;
    assert!(dropped >= 200_000.0 - 65_536.0, "{dropped}");
    assert!(watch.grown_bytes() < 8 * MIB, "{}", watch.grown_bytes());
    watch.end(&[("ok", 2)]).await;
}

/// Case G21.
#[tokio::test]
async fn terminal_control_characters_are_escaped() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-hostile").await;
    gateway.get("/f/t-hostile/log?raw=a%1b[2Jb%0dfalse%20line%07%c2%9b31m%00z%0a").await;
    let said = async || lines(&gateway, "t-hostile").await.0.into_iter().next();
    let line = eventually("the line is in the log", said).await;
    assert!(line.starts_with('a') && line.ends_with('z'), "{line}");
    assert!(!line.chars().any(char::is_control), "{line:?}");
}

/// Case G21.
#[tokio::test]
async fn a_functions_log_rate_is_limited_across_its_invocations() {
    const PER_SECOND: u64 = 100_000;
    let setting = format!("guests.log_bytes_per_second={PER_SECOND}");
    let gateway = Arc::new(TestGateway::with(&[&setting]).await);
    gateway.deploy("t-hostile").await;
    let since = Instant::now();
    let calls = 60_u64;
    // Each call stays within its own limit; together they exceed the function's rate by far.
    let each = (0..calls).map(|_| gateway.call(Method::GET, "/f/t-hostile/log?bytes=60000").send());
    for answer in join_all(each).await {
        assert_eq!(answer.plain(), (200, "logged\n"));
    }
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    let seconds = since.elapsed().as_secs() + 1;
    let dropped = gateway.metric("mayfly_log_bytes_dropped_total").await as u64;
    let kept = calls * 60_000 - dropped;
    assert!(kept <= (seconds + 1) * PER_SECOND, "{kept} bytes in {seconds} s");
    assert!(kept >= PER_SECOND / 2, "{kept}");
    let metrics = gateway.api("/metrics").await;
    let hit = r#"mayfly_limit_hits_total{limit="log_bytes_per_second"}"#;
    let hits = metrics.text().lines().find_map(|line| line.strip_prefix(hit)).unwrap();
    assert_ne!(hits.trim(), "0");
}

/// Calls each of preview1's functions for sockets a hundred times. The standard streams are no sockets,
/// and other descriptors do not exist.
const SOCKETS: &str = r#"(module
    (import "wasi_snapshot_preview1" "sock_accept"
        (func $accept (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_recv"
        (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_send"
        (func $send (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_shutdown" (func $shutdown (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "Content-Type: text/plain\n\nrefused")
    (data (i32.const 0) "\10\00\00\00\21\00\00\00")
    (func $all (param $fd i32) (param $errno i32)
        (if (i32.ne (call $accept (local.get $fd) (i32.const 0) (i32.const 100)) (local.get $errno))
            (then unreachable))
        (if (i32.ne (call $recv (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 0)
                (i32.const 100) (i32.const 104)) (local.get $errno))
            (then unreachable))
        (if (i32.ne (call $send (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 0)
                (i32.const 100)) (local.get $errno))
            (then unreachable))
        (if (i32.ne (call $shutdown (local.get $fd) (i32.const 1)) (local.get $errno))
            (then unreachable)))
    (func (export "_start") (local $n i32)
        (loop $again
            (call $all (i32.const 1) (i32.const 57))
            (call $all (i32.const 9) (i32.const 8))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 100))))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Case G21.
#[tokio::test]
async fn guests_write_nothing_into_the_gateways_own_log() {
    let gateway = Arc::new(TestGateway::start().await);
    assert_eq!(gateway.put("sockets", wat::parse_str(SOCKETS).unwrap()).send().await.status(), 201);
    gateway.deploy("t-hostile").await;
    let before = gateway.log().lines().count();
    assert_eq!(gateway.get("/f/sockets/").await.plain(), (200, "refused"));
    assert_eq!(gateway.get("/f/t-hostile/pathless?n=100").await.plain(), (200, "refused\n"));
    let log = gateway.log();
    let lines: Vec<_> = log.lines().skip(before).collect();
    assert!(lines.len() < 10, "{lines:#?}");
}
