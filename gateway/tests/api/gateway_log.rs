//! The gateway's own log, whose reader may stall.

use std::{
    io::{BufRead as _, BufReader},
    sync::Arc,
    thread,
};

use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use crate::{
    client::eventually,
    hostile_guests::{GuestWatch, times},
    test_gateway::TestGateway,
};

/// The metric of lines that the gateway's log has lost.
const DROPPED: &str = "mayfly_gateway_log_lines_dropped_total";

/// Case O11.
#[tokio::test]
async fn a_stalled_reader_of_the_log_stops_no_request_and_no_exit() {
    let settings = ["logs.buffer_bytes=64KiB", "logs.level=trace,sqlx=trace"];
    let mut gateway = TestGateway::with_a_stalled_log(&settings).await;
    gateway.deploy("c-hello").await;
    let before = gateway.resident_bytes();
    for _ in 0..times(20, 1_000) {
        let calls = (0..16).map(|_| gateway.get("/f/c-hello/"));
        // Each of these writes several lines.
        let shown = (0..16).map(|_| gateway.show("c-hello"));
        let (calls, shown) = tokio::join!(join_all(calls), join_all(shown));
        assert!(calls.iter().all(|answer| answer.plain() == (200, "hello from c\n")));
        assert!(shown.iter().all(|answer| answer.status() == 200));
        let probe = gateway.anonymous(Method::GET, "/healthz").send().await;
        assert_eq!(probe.status(), 200);
    }
    assert!(gateway.metric(DROPPED).await > 0.0);
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown}");

    gateway.terminate();
    assert!(gateway.exit().await.success());
}

/// Case O11.
#[tokio::test]
async fn a_reader_that_reads_again_learns_what_was_lost_and_gets_the_last_lines() {
    let mut gateway = TestGateway::with_a_stalled_log(&["logs.buffer_bytes=64KiB"]).await;
    let lost = async || {
        join_all((0..16).map(|_| gateway.api("/v1/functions/missing"))).await;
        (gateway.metric(DROPPED).await > 0.0).then_some(())
    };
    eventually("the buffer is full", lost).await;

    let reader = gateway.read_stalled_log();
    let lines = thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        let mut lines = lines.filter(|line| !line.is_empty());
        let mut report = None;
        let last = lines.find(|line| {
            assert!(line.starts_with('{') && line.ends_with('}'), "no line is cut: {line}");
            if line.contains("lines of this log were dropped") {
                report = Some(line.clone());
            }
            line.contains(r#""message":"stopped""#)
        });
        (report, last)
    });
    // The reader has taken what waited, so that this line is written.
    let flowing = async || {
        let before = gateway.metric(DROPPED).await;
        join_all((0..16).map(|_| gateway.api("/v1/functions/missing"))).await;
        (gateway.metric(DROPPED).await == before).then_some(())
    };
    eventually("lines are written again", flowing).await;
    gateway.terminate();
    assert!(gateway.exit().await.success());
    drop(gateway);
    let (report, last) = lines.join().unwrap();
    assert!(report.unwrap().contains(r#""level":"WARN""#));
    assert!(last.is_some(), "the last line is written before the exit");
}

/// Case O11.
#[tokio::test]
async fn hostile_guests_end_at_their_limits_while_the_log_has_stalled() {
    let settings = ["logs.buffer_bytes=64KiB", "logs.level=trace,wasmtime_wasi=trace"];
    let gateway = Arc::new(TestGateway::with_a_stalled_log(&settings).await);
    for name in ["t-hostile", "t-hostile-p3", "t-hostile-cgi", "t-trap", "t-loop"] {
        gateway.deploy_with(name, &json!({"cpu_ms": 100})).await;
    }
    let watch = GuestWatch::begin(&gateway).await;
    let calls = times(2, 100);
    for _ in 0..calls {
        for (target, problem) in [
            ("/f/t-loop/", (504, "cpu-limit")),
            ("/f/t-hostile-p3/loop", (504, "cpu-limit")),
            ("/f/t-trap/trap", (502, "function-failed")),
            ("/f/t-hostile/exit", (502, "no-response")),
            ("/f/t-hostile-cgi/exit", (502, "no-response")),
        ] {
            assert_eq!(gateway.get(target).await.problem(), problem, "{target}");
        }
    }
    let outcomes =
        [("cpu-limit", 2 * calls), ("function-failed", calls), ("no-response", 2 * calls)];
    watch.end(&outcomes).await;
}

/// Case O11.
#[tokio::test]
async fn libraries_are_silent_unless_the_level_names_them() {
    for (level, speaks) in [("trace", false), ("info,sqlx=debug", true)] {
        let gateway = TestGateway::with(&[&format!("logs.level={level}")]).await;
        gateway.deploy("c-hello").await;
        gateway.get("/f/c-hello/").await;
        let log = gateway.log();
        assert_eq!(log.contains(r#""target":"sqlx"#), speaks, "{level}: {log}");
        assert!(log.contains(r#""target":"gateway"#), "{level}: {log}");
        for other in ["h2", "hyper", "rustls", "wasmtime", "wasmtime_wasi", "mio", "tokio"] {
            assert!(!log.contains(&format!(r#""target":"{other}"#)), "{level}: {log}");
        }
    }
}
