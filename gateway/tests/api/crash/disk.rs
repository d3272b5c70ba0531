//! A full disk, and a database that another process has locked.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use http::Method;
use serde_json::json;

use super::nothing_is_half_done;
use crate::{
    cgi::in_pieces,
    client::eventually,
    guests::{distinct, guest},
    hostile_uploads::Canary,
    test_gateway::TestGateway,
};

/// Case C02.
#[tokio::test]
async fn a_full_disk_refuses_writes_serves_calls_and_recovers_with_free_space() {
    let mut gateway = TestGateway::on_a_disk_of("16m").await;
    gateway.expect_errors();
    gateway.deploy("c-hello").await;
    gateway.deploy("t-env").await;
    let canary = Canary::start(&gateway);
    let filler = gateway.data_dir().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4_096]).is_ok() {}
    drop(file);

    let wasm = guest("hello");
    for n in 0..5 {
        let refused = gateway.put("late", distinct(&wasm, n)).send().await;
        assert_eq!(refused.problem(), (507, "no-space"), "{refused:?}");
        let settings = json!({"settings": {"environment": {"A": "x".repeat(20_000)}}});
        let refused = gateway.patch("t-env", &settings).await;
        assert_eq!(refused.problem(), (507, "no-space"), "{refused:?}");
        assert_eq!(gateway.get("/f/t-env/").await.status(), 200);
    }
    assert_eq!(gateway.api("/v1/functions").await.status(), 200, "reads must succeed");
    fs::remove_file(filler).unwrap();

    assert_eq!(gateway.put("late", wasm).send().await.status(), 201);
    let changed = gateway.patch("t-env", &json!({"settings": {"environment": {"A": "1"}}})).await;
    assert_eq!(changed.status(), 200, "{changed:?}");
    assert_eq!(gateway.get("/f/late/").await.plain(), (200, "hello from rust\n"));
    canary.ends_unharmed().await;
    gateway.no_uploads_left().await;
    nothing_is_half_done(&gateway);
}

/// Case C02.
#[tokio::test]
async fn a_full_disk_refuses_a_body_that_would_be_buffered() {
    let mut gateway = TestGateway::on_a_disk_of("16m").await;
    gateway.expect_errors();
    gateway.deploy("echo-cgi").await;
    for _ in 0..2 {
        let refused = in_pieces(&gateway, "echo-cgi", &vec![1; 20_000_000]).await;
        assert_eq!(refused.problem(), (507, "no-space"), "{refused:?}");
        // The file of the refused body has left its room to this one.
        let kept = in_pieces(&gateway, "echo-cgi", &vec![1; 1_000_000]).await;
        assert_eq!((kept.status(), kept.bytes().len()), (200, 1_000_000));
    }
    gateway.metric_becomes("mayfly_buffered_body_bytes", 0.0).await;
    gateway.no_uploads_left().await;
}

/// Case C04.
#[tokio::test]
async fn a_database_locked_by_another_process_delays_changes_but_no_call() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    gateway.put("cold", guest("c-hello-cgi")).send().await;
    let canary = Canary::start(&gateway);
    let database = gateway.data_dir().join("mayfly.db");
    let hold = "import sqlite3, sys; \
                c = sqlite3.connect(sys.argv[1], isolation_level=None); \
                c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()";
    let mut holder = Command::new("python3")
        .args(["-c", hold])
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs python3 with sqlite3");
    let mut held = String::new();
    let stdout = holder.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut held).unwrap();
    assert_eq!(held, "held\n");

    let timed = async |call: crate::client::TestRequest| {
        let begun = Instant::now();
        (call.send().await, begun.elapsed())
    };
    let described = json!({"description": "x"});
    let change = gateway.control(Method::PATCH, "/v1/functions/c-hello").json(&described);
    let upload = gateway.put("greet", distinct(&guest("c-hello-cgi"), 1));
    let delete = gateway.control(Method::DELETE, "/v1/functions/cold");
    let (changed, uploaded) = tokio::join!(timed(change), timed(upload));
    for (refused, took) in [changed, uploaded, timed(delete).await] {
        assert_eq!(refused.problem(), (503, "store-busy"), "{refused:?}");
        assert!(refused.json()["retry_after_s"].as_u64().unwrap() <= 6);
        // Less than six seconds without other tests on the machine.
        assert!(took < Duration::from_secs(9), "{took:?}");
    }
    assert_eq!(gateway.get("/f/cold/").await.status(), 200);
    drop(holder.stdin.take());
    holder.wait().unwrap();

    eventually("changes succeed again", async || {
        let made = gateway.put("greet", guest("c-hello-cgi")).send().await;
        (made.status() == 201).then_some(())
    })
    .await;
    canary.ends_unharmed().await;
}
