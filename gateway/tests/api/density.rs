//! Many functions: more than the memory budget holds, and more than a start should touch.

use std::{
    fs,
    ops::Range,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::json;

use crate::{
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

/// The smallest budget that the setting allows.
const BUDGET: u64 = 16 << 20;

/// Bytes of native code in memory, as the gateway counts them.
async fn resident_bytes(gateway: &TestGateway) -> f64 {
    gateway.metric("mayfly_resident_code_bytes").await
}

async fn state(gateway: &TestGateway, name: &str) -> String {
    gateway.show(name).await.json()["state"].as_str().unwrap().to_owned()
}

/// Deploys a guest as `f-0`, `f-1` and so on, each with native code of its own.
async fn deploy_many(gateway: &TestGateway, name: &str, numbers: Range<u32>) {
    let wasm = guest(name);
    for number in numbers {
        let answer = gateway.put(&format!("f-{number}"), distinct(&wasm, number)).send().await;
        assert_eq!(answer.status(), 201, "{answer:?}");
    }
}

#[tokio::test]
async fn functions_of_three_times_the_budget_are_served_without_a_failure() {
    let budget = format!("pool.resident_bytes={BUDGET}");
    let gateway = TestGateway::with(&[&budget]).await;
    deploy_many(&gateway, "hello", 0..1).await;
    let each = resident_bytes(&gateway).await;
    let count = (3.0 * BUDGET as f64 / each).ceil() as u32;
    deploy_many(&gateway, "hello", 1..count).await;

    for round in 0..3 {
        for number in 0..count {
            let answer = gateway.get(&format!("/f/f-{number}/")).await;
            assert_eq!(answer.plain(), (200, "hello from rust\n"), "f-{number}, round {round}");
        }
    }
    let evicted = gateway.metric("mayfly_evictions_total").await;
    assert!(evicted >= f64::from(count), "{evicted} evictions of {count} functions");
    assert_eq!(gateway.metric("mayfly_compilations_total").await, f64::from(count));
    let metrics = gateway.api("/metrics").await;
    assert!(metrics.text().contains(r#"mayfly_evictions_total{cause="capacity"}"#));
    crate::client::eventually("the resident code fits into the budget", async || {
        (resident_bytes(&gateway).await <= BUDGET as f64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_least_recently_called_function_is_evicted_first_and_a_call_in_flight_completes() {
    let budget = format!("pool.resident_bytes={BUDGET}");
    let gateway = TestGateway::with(&[&budget]).await;
    gateway.deploy_with("t-sleep", &json!({"timeout_ms": 300_000})).await;
    deploy_many(&gateway, "hello", 0..2).await;
    let each = resident_bytes(&gateway).await / 3.0;
    let count = (2.0 * BUDGET as f64 / each).ceil() as u32;
    let slow = tokio::spawn(gateway.call(Method::GET, "/f/t-sleep/?ms=5000").send());
    gateway.metric_becomes("mayfly_live_instances", 1.0).await;

    // f-0 is called all the time, f-1 never again, and each of the others once, by its deploy.
    let wasm = guest("hello");
    for number in 2..count {
        assert_eq!(gateway.get("/f/f-0/").await.status(), 200);
        let answer = gateway.put(&format!("f-{number}"), distinct(&wasm, number)).send().await;
        assert_eq!(answer.status(), 201, "{answer:?}");
    }

    assert_eq!(state(&gateway, "f-0").await, "loaded");
    assert_eq!(state(&gateway, "f-1").await, "cold");
    assert_eq!(state(&gateway, "t-sleep").await, "cold");
    assert_eq!(slow.await.unwrap().plain(), (200, "slept\n"));
    assert_eq!(gateway.get("/f/f-1/").await.plain(), (200, "hello from rust\n"));
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_start_touches_no_artifact_and_no_native_code() {
    const COUNT: u32 = 300;
    let mut gateway = TestGateway::start().await;
    deploy_many(&gateway, "c-hello", 0..COUNT).await;
    gateway.terminate();
    assert!(gateway.exit().await.success());
    // The files are moved away, so that even root cannot read them. Only a code directory with the
    // key and the note about the last build remains.
    let (data, away) = (gateway.data_dir(), gateway.data_dir().with_extension("away"));
    fs::create_dir(&away).unwrap();
    fs::rename(data.join("artifacts"), away.join("artifacts")).unwrap();
    fs::rename(data.join("code"), away.join("code")).unwrap();
    fs::create_dir(data.join("code")).unwrap();
    for file in ["seal.key", "engines"] {
        fs::copy(away.join("code").join(file), data.join("code").join(file)).unwrap();
    }
    permit(&data.join("code"), 0o700);

    gateway.start_again().await;
    assert_eq!(gateway.anonymous(Method::GET, "/readyz").send().await.status(), 200);
    let (mut listed, mut after) = (0, String::new());
    loop {
        let page = gateway.api(&format!("/v1/functions?limit=100{after}")).await;
        listed += page.json()["functions"].as_array().unwrap().len();
        match page.json()["next_cursor"].as_str() {
            Some(cursor) => after = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed, COUNT as usize);
    assert_eq!(gateway.metric("mayfly_resident_functions").await, 0.0);
    assert_eq!(gateway.metric("mayfly_native_code_missing").await, 0.0);

    // With the files back in place, every function is served and nothing is compiled.
    fs::remove_dir_all(data.join("artifacts")).unwrap_or_default();
    fs::rename(away.join("artifacts"), data.join("artifacts")).unwrap();
    fs::remove_dir_all(data.join("code")).unwrap();
    fs::rename(away.join("code"), data.join("code")).unwrap();
    for number in 0..COUNT {
        let answer = gateway.get(&format!("/f/f-{number}/")).await;
        assert_eq!(answer.plain(), (200, "hello from c\n"), "f-{number}");
    }
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 0.0);
}

/// Adds copies of `f-0` to the database: deploying them would take far longer than the start that
/// the test measures.
fn multiply(database: &Path, count: u32) {
    const MULTIPLY: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
[id] = db.execute('SELECT id FROM functions').fetchone()
for n in range(1, int(sys.argv[2])):
    made = db.execute('''INSERT INTO functions (tenant, name, active_revision, created_ms, updated_ms)
        SELECT tenant, 'f-' || ?, active_revision, created_ms, updated_ms FROM functions
        WHERE id = ?''', (n, id))
    db.execute('''INSERT INTO revisions (function_id, number, digest, kind, settings, created_ms)
        SELECT ?, number, digest, kind, settings, created_ms
        FROM revisions WHERE function_id = ?''', (made.lastrowid, id))
db.commit()
";
    let python = Command::new("python3")
        .args(["-c", MULTIPLY])
        .arg(database)
        .arg(count.to_string())
        .output()
        .expect("this test needs python3 with sqlite3");
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
}

/// Case C01.
#[tokio::test]
async fn a_thousand_functions_are_served_seconds_after_a_crash() {
    const COUNT: u32 = 1_000;
    let mut gateway = TestGateway::start().await;
    assert_eq!(gateway.put("f-0", guest("c-hello-cgi")).send().await.status(), 201);
    gateway.kill();
    multiply(&gateway.data_dir().join("mayfly.db"), COUNT);

    let since = Instant::now();
    gateway.start_again().await;
    assert_eq!(gateway.get("/f/f-999/").await.plain(), (200, "hello from c\n"));
    // The target is two seconds; other tests may keep the machine busy.
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    for number in (0..COUNT).step_by(97) {
        let answer = gateway.get(&format!("/f/f-{number}/")).await;
        assert_eq!(answer.plain(), (200, "hello from c\n"), "f-{number}");
    }
}
