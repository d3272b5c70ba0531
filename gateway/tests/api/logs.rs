//! The logs of functions, as their owners read them.

use serde_json::{Value, json};

use crate::{client::eventually, test_gateway::TestGateway};

fn text(line: &Value) -> &str {
    line["line"].as_str().unwrap()
}

#[tokio::test]
async fn lines_are_kept_in_order_with_stream_and_invocation() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-logs").await;
    let answer = gateway.get("/f/t-logs/?n=3").await;
    assert_eq!(answer.plain(), (200, "logged\n"));

    let lines = gateway.log_lines("t-logs", 6).await;
    let of = |stream: &str| -> Vec<&str> {
        lines.iter().filter(|line| line["stream"] == stream).map(text).collect()
    };
    assert_eq!(of("stdout"), ["stdout line 0", "stdout line 1", "stdout line 2"]);
    assert_eq!(of("stderr"), ["stderr line 0", "stderr line 1", "stderr line 2"]);
    let id = answer.header("mayfly-request-id").unwrap();
    assert!(lines.iter().all(|line| line["invocation"] == id && line["revision"] == 1));
    assert!(lines.is_sorted_by_key(|line| line["cursor"].as_i64().unwrap()));
}

#[tokio::test]
async fn lines_can_be_filtered_by_invocation() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-logs").await;
    gateway.get("/f/t-logs/?n=2").await;
    let second = gateway.get("/f/t-logs/?n=1").await;
    let all = gateway.log_lines("t-logs", 6).await;
    assert_eq!(all.len(), 6);
    let id = second.header("mayfly-request-id").unwrap();
    let log = gateway.api(&format!("/v1/functions/t-logs/logs?invocation={id}")).await;
    let lines = log.json()["lines"].as_array().unwrap();
    assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), ["stdout line 0", "stderr line 0"]);
}

#[tokio::test]
async fn a_reader_continues_at_its_cursor() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-logs").await;
    gateway.get("/f/t-logs/?n=5").await;
    let all = gateway.log_lines("t-logs", 10).await;
    let mut cursor = all[0]["cursor"].as_i64().unwrap() - 1;
    let mut read = Vec::new();
    loop {
        let target = format!("/v1/functions/t-logs/logs?limit=3&after={cursor}");
        let page = gateway.api(&target).await.json().clone();
        let lines = page["lines"].as_array().unwrap();
        assert!(lines.len() <= 3);
        read.extend(lines.clone());
        assert_eq!(page["next_cursor"].as_i64().unwrap(), read.last().unwrap()["cursor"]);
        if lines.is_empty() {
            break;
        }
        cursor = page["next_cursor"].as_i64().unwrap();
    }
    assert_eq!(read, all);

    // Without a cursor: the newest lines, the oldest of them first.
    let newest = gateway.api("/v1/functions/t-logs/logs?limit=3").await;
    assert_eq!(newest.json()["lines"].as_array().unwrap()[..], all[7..]);
}

/// Case G21.
#[tokio::test]
async fn output_beyond_the_limit_is_dropped_and_reported() {
    let gateway = TestGateway::with(&["limits.log_bytes=1000"]).await;
    gateway.deploy("t-logs").await;
    gateway.get("/f/t-logs/?n=1000").await;
    let said = async || {
        let lines = gateway.log_lines("t-logs", 1).await;
        lines.iter().any(|line| line["stream"] == "system").then_some(lines)
    };
    let lines = eventually("the log reports the dropped output", said).await;
    let (last, kept) = lines.split_last().unwrap();
    assert_eq!(last["stream"], "system");
    assert!(text(last).contains("dropped") && text(last).contains("log_bytes"), "{last}");
    let dropped: usize = text(last).split(' ').next().unwrap().parse().unwrap();
    // The line feed counts, too.
    let bytes: usize = kept.iter().map(|line| text(line).len() + 1).sum();
    assert!((900..=1000).contains(&bytes), "{bytes}");
    let written: usize = (0..1000).map(|n| 2 * (format!("stdout line {n}").len() + 1)).sum();
    assert_eq!(bytes + dropped, written);
}

#[tokio::test]
async fn standard_error_of_a_program_is_its_log() {
    let gateway = TestGateway::start().await;
    // Go starts with 34 pages, asks for more, and reports the failure on standard error.
    gateway.deploy_with("go-hello", &json!({"memory_bytes": 36 * 65_536})).await;
    assert_eq!(gateway.get("/f/go-hello/").await.status(), 502);
    let said = async || {
        let lines = gateway.log_lines("go-hello", 1).await;
        let is_said = |line: &Value| line["stream"] == "stderr" && text(line).contains("allocate");
        lines.iter().any(is_said).then_some(())
    };
    eventually("the log has Go's message", said).await;
}

#[tokio::test]
async fn each_function_has_its_own_log() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-logs").await;
    gateway.deploy("c-hello").await;
    gateway.get("/f/t-logs/?n=1").await;
    gateway.log_lines("t-logs", 2).await;
    let log = gateway.api("/v1/functions/c-hello/logs").await;
    assert_eq!(log.json(), &json!({"lines": [], "next_cursor": null}));
    let missing = gateway.api("/v1/functions/missing/logs").await;
    assert_eq!(missing.problem(), (404, "function-not-found"));
}

#[tokio::test]
async fn lines_survive_a_restart() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-logs").await;
    gateway.get("/f/t-logs/?n=2").await;
    gateway.restart().await;
    assert_eq!(gateway.log_lines("t-logs", 4).await.len(), 4);
}

/// Case C02.
#[tokio::test]
async fn lines_are_given_up_before_the_disk_is_full_and_deploys_go_on() {
    let gateway = TestGateway::with(&["logs.free_bytes=1TiB"]).await;
    gateway.deploy("t-logs").await;
    assert_eq!(gateway.get("/f/t-logs/?n=3").await.plain(), (200, "logged\n"));
    gateway.metric_becomes("mayfly_log_lines_lost_total", 6.0).await;
    let log = gateway.api("/v1/functions/t-logs/logs").await;
    assert_eq!(log.json()["lines"], json!([]));
    gateway.deploy("c-hello").await;
    assert!(gateway.log().contains("room for log lines of functions"));
}
