//! Snapshots: start-up that runs at the deploy, and the state that instances do not share.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::{client::FullResponse, guests::guest, test_gateway::TestGateway};

async fn put(gateway: &TestGateway, name: &str, guest_name: &str, snapshot: Value) -> FullResponse {
    let settings = json!({"snapshot": snapshot, "environment": {"GREETING": "hello"}});
    gateway
        .put(name, guest(guest_name))
        .header("mayfly-settings", &settings.to_string())
        .send()
        .await
}

/// The response of `t-snapshot`: a random number, the time, its variable and the state of its
/// start-up.
async fn lines(gateway: &TestGateway) -> [String; 4] {
    let answer = gateway.get("/f/f/").await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let lines: Vec<String> = answer.text().lines().map(str::to_owned).collect();
    lines.try_into().unwrap()
}

#[tokio::test]
async fn a_request_skips_the_start_up_that_ran_at_the_deploy() {
    let gateway = TestGateway::start().await;
    let plain = put(&gateway, "plain", "table", Value::Null).await;
    assert_eq!(plain.status(), 201, "{plain:?}");
    assert_eq!(plain.json()["snapshot"], Value::Null);
    let spared = put(&gateway, "spared", "table", true.into()).await;
    assert_eq!(spared.status(), 201, "{spared:?}");
    let snapshot = &spared.json()["snapshot"];
    assert_eq!(snapshot["taken"], true, "{snapshot}");
    assert!(snapshot["init_ms"].as_u64().unwrap() > 0, "{snapshot}");
    assert!(snapshot["bytes"].as_u64().unwrap() > 2_000_000, "smaller than the table: {snapshot}");
    assert_eq!(gateway.show("spared").await.json()["snapshot"], *snapshot);

    let mut seconds = Vec::new();
    for target in ["/f/plain/?n=27", "/f/spared/?n=27"] {
        let before = gateway.metric("mayfly_cpu_seconds_total").await;
        assert_eq!(gateway.get(target).await.plain(), (200, "111\n"));
        seconds.push(gateway.metric("mayfly_cpu_seconds_total").await - before);
    }
    assert!(seconds[1] * 5.0 < seconds[0], "CPU seconds without and with a snapshot: {seconds:?}");
}

#[tokio::test]
async fn instances_of_a_snapshot_have_their_own_random_numbers_clock_and_variables() {
    let gateway = TestGateway::start().await;
    let made = put(&gateway, "f", "t-snapshot", true.into()).await;
    assert_eq!(made.json()["snapshot"]["taken"], true, "{made:?}");
    let one = lines(&gateway).await;
    // The clocks of guests have a resolution of a millisecond.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let other = lines(&gateway).await;
    assert_ne!(one[0], other[0], "random numbers");
    assert!(one[1].parse::<u128>().unwrap() < other[1].parse::<u128>().unwrap(), "the clock");
    assert_eq!([&one[2], &one[3]], ["hello", "prepared"]);
    assert_eq!([&other[2], &other[3]], ["hello", "prepared"]);
}

#[tokio::test]
async fn a_function_that_cannot_have_a_snapshot_says_why_and_runs_without_one() {
    let mut gateway = TestGateway::start().await;
    let mut reason = String::new();
    for (export, why) in [
        ("no-such-export", "it exports no function `no-such-export`"),
        ("with-parameters", "no function without parameters"),
        ("memory", "no function without parameters"),
        ("hash", "its start-up calls `wasi:random/"),
        ("look-at-the-clock", "its start-up calls `wasi:clocks/"),
        ("read-a-variable", "its start-up calls `wasi:cli/environment@"),
        ("keep-something-open", "it keeps a resource of the host open"),
        // Rust keeps a handle of its standard output.
        ("write-something", "it keeps a resource of the host open"),
    ] {
        let made = put(&gateway, "f", "t-snapshot", export.into()).await;
        assert_eq!(made.status(), 201, "{export}: {made:?}");
        let snapshot = &made.json()["snapshot"];
        assert_eq!(snapshot["taken"], false, "{export}: {snapshot}");
        reason = snapshot["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains(why), "{export}: {reason}");
        assert_eq!(&lines(&gateway).await[2..], ["hello", ""], "{export}");
    }
    gateway.restart().await;
    assert_eq!(gateway.show("f").await.json()["snapshot"]["reason"], reason);
}

#[tokio::test]
async fn a_start_up_that_fails_is_refused_with_the_reason() {
    let gateway = TestGateway::with(&["compile.cpu_s=5"]).await;
    for (export, why) in [
        ("give-up", "the table is empty"),
        ("leave", "it exited with an error"),
        ("hoard", "memory_bytes"),
        ("never-end", "more than 5 s of CPU time"),
    ] {
        let refused = put(&gateway, "f", "t-snapshot", export.into()).await;
        assert_eq!(refused.problem(), (422, "snapshot-failed"), "{export}: {refused:?}");
        let detail = refused.detail();
        assert!(detail.contains(export) && detail.contains(why), "{export}: {detail}");
    }
    assert_eq!(gateway.show("f").await.status(), 404);
    assert_eq!(put(&gateway, "f", "t-snapshot", true.into()).await.status(), 201);
    let changed = gateway.patch("f", &json!({"settings": {"snapshot": "give-up"}})).await;
    assert_eq!(changed.problem(), (422, "snapshot-failed"));
    assert_eq!(lines(&gateway).await[3], "prepared");
}

#[tokio::test]
async fn the_same_bytes_with_and_without_a_snapshot_have_different_native_code() {
    let gateway = TestGateway::start().await;
    for (revision, snapshot, left) in
        [(1, false, ""), (2, true, "prepared"), (3, false, ""), (4, true, "prepared")]
    {
        let made = put(&gateway, "f", "t-snapshot", snapshot.into()).await;
        assert_eq!(made.json()["revision"], revision, "{made:?}");
        assert_eq!(lines(&gateway).await[3], left);
    }
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 2.0);
    let artifact = gateway.api("/v1/functions/f/artifact").await;
    assert_eq!(artifact.bytes(), guest("t-snapshot"), "the artifact must be the upload");
}

#[tokio::test]
async fn a_snapshot_lost_with_the_native_code_is_taken_again() {
    let mut gateway = TestGateway::with(&["compile.renew=false"]).await;
    let made = put(&gateway, "f", "t-snapshot", true.into()).await;
    let bytes = made.json()["snapshot"]["bytes"].clone();
    gateway.terminate();
    gateway.exit().await;
    fs::remove_dir_all(gateway.data_dir().join("code")).unwrap();

    gateway.start_again().await;
    assert_eq!(gateway.show("f").await.json()["snapshot"], Value::Null, "no snapshot is known");
    assert_eq!(lines(&gateway).await[3], "prepared");
    let snapshot = gateway.show("f").await.json()["snapshot"].clone();
    assert_eq!([&snapshot["taken"], &snapshot["bytes"]], [&Value::from(true), &bytes]);
}

#[tokio::test]
async fn a_start_up_that_exceeds_a_lowered_limit_is_run_without_a_snapshot() {
    let mut gateway = TestGateway::start().await;
    assert_eq!(put(&gateway, "f", "table", true.into()).await.status(), 201);
    gateway.terminate();
    gateway.exit().await;

    // Too little memory for the table, and enough for the rest.
    gateway.start_with(&["ceilings.memory_bytes=1500000", "limits.memory_bytes=1500000"]).await;
    assert_eq!(
        gateway.get("/f/f/?n=x").await.status(),
        400,
        "a request without the table must be answered"
    );
    let snapshot = gateway.show("f").await.json()["snapshot"].clone();
    assert_eq!(snapshot["taken"], false, "{snapshot}");
    assert!(snapshot["reason"].as_str().unwrap().contains("memory_bytes"), "{snapshot}");
}

#[tokio::test]
async fn a_program_starts_from_its_snapshot_and_sees_the_request() {
    let gateway = TestGateway::start().await;
    for (snapshot, taken, answer) in [
        (Value::Bool(false), Value::Null, "0 a=b\n"),
        (Value::Bool(true), Value::Bool(true), "998001 a=b\n"),
        ("read-a-variable".into(), Value::Bool(false), "0 a=b\n"),
    ] {
        let made = put(&gateway, "f", "t-snapshot-cgi", snapshot).await;
        assert_eq!(made.json()["snapshot"]["taken"], taken, "{made:?}");
        assert_eq!(gateway.get("/f/f/?a=b").await.plain(), (200, answer));
    }
}

#[tokio::test]
async fn an_async_component_starts_from_its_snapshot() {
    let gateway = TestGateway::start().await;
    let made = put(&gateway, "f", "t-counter-p3", true.into()).await;
    assert_eq!(made.json()["snapshot"]["taken"], true, "{made:?}");
    for _ in 0..2 {
        assert_eq!(gateway.get("/f/f/").await.plain(), (200, "101\n"));
    }
}

#[tokio::test]
async fn a_component_initialised_at_build_time_gets_no_snapshot() {
    let gateway = TestGateway::start().await;
    let made = put(&gateway, "f", "js-hello", true.into()).await;
    let reason = made.json()["snapshot"]["reason"].as_str().unwrap();
    assert_eq!(reason, "ComponentizeJS initialised it when it was built");
    assert_eq!(gateway.get("/f/f/").await.status(), 200);
}

#[tokio::test]
async fn the_snapshot_setting_is_a_switch_or_a_name() {
    let gateway = TestGateway::start().await;
    let long = "x".repeat(129);
    for snapshot in [json!(1), json!(""), json!("_start"), json!("a\nb"), json!(long)] {
        let refused = put(&gateway, "f", "t-snapshot", snapshot.clone()).await;
        assert_eq!(refused.problem(), (422, "bad-settings"), "{snapshot}");
    }
}

#[tokio::test]
async fn the_command_line_requests_a_snapshot_and_prints_the_result() {
    let gateway = TestGateway::start().await;
    let file = crate::guests::path("t-snapshot");
    let file = file.to_str().unwrap();
    let said = gateway.cli(&["deploy", file, "--name", "f", "--snapshot"]).await;
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("snapshot taken: "), "{text}");
    let said = gateway.cli(&["set", "f", "snapshot=hash"]).await;
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("not taken: its start-up calls `wasi:random/"), "{text}");
    let said = gateway.cli(&["deploy", file, "--name", "f", "--snapshot=give-up"]).await;
    assert!(!said.status.success());
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains("the table is empty"), "{text}");
}
