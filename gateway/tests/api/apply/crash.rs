//! `kill -9` at each step of an apply: all of it is there afterwards, or nothing.

use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::{Value, json};

use super::{all, everything, steps};
use crate::{
    crash::Strace, guests::guest, hostile_uploads::repetitions, test_gateway::TestGateway,
};

/// Kills a gateway at a system call on its database while it changes everything that a manifest names.
async fn killed_at(call: &str, nth: u32) {
    let at = format!("{call} {nth}");
    let mut gateway = TestGateway::start().await;
    let before = everything(&gateway.artifact("c-hello").await);
    gateway.applied(&before).await;
    let rust = gateway.artifact("hello").await;
    let mut after = before.clone();
    let function = &mut after["functions"]["hello"];
    function["artifact"] = json!(rust);
    function["version"] = json!("1.2.1");
    after["functions"]["more"] = json!({"artifact": rust});
    after["routes"]["users"]["function"] = json!("more");
    after["routes"]["users"].as_object_mut().unwrap().remove("channel");
    after["queues"]["orders"]["attempts"] = json!(9);
    after["flows"]["inner"]["timeout_ms"] = json!(9_000);
    after["schedules"] = json!({});
    after["prune"] = json!(true);
    let mut dry = after.clone();
    dry["dry_run"] = json!(true);
    let planned = steps(&gateway.apply(&dry).await);

    let path = gateway.data_dir().join("mayfly.db-wal");
    let what = [&*format!("trace={call}"), &*format!("inject={call}:signal=KILL:when={nth}")];
    let strace = Strace::attach(gateway.pid(), &what, Some(&path)).await;
    let post = gateway.control(Method::POST, "/v1/apply").json(&after);
    let answer = post.try_send().await;
    let acknowledged = answer.is_ok();
    if acknowledged {
        // So few writes were needed.
        gateway.kill();
    } else {
        assert!(!gateway.exit().await.success(), "{at}: it was not killed");
    }
    drop(strace);
    gateway.start_again().await;

    let (is_old, is_new) = (is(&gateway, &before).await, is(&gateway, &after).await);
    assert!(is_old != is_new, "{at}: it is neither one nor the other");
    assert!(is_new || !acknowledged, "{at}: what was acknowledged is lost");
    let users = gateway.get("/users/1").await;
    assert_eq!(users.text() == "hello from c\n", is_old, "{at}: {users:?}");
    let again = gateway.applied(&after).await;
    let kept = || again.iter().all(|step| step.starts_with("keep"));
    assert!(if is_new { kept() } else { again == planned }, "{at}: {again:?}");
}

/// Whether a manifest says what there is.
async fn is(gateway: &TestGateway, manifest: &Value) -> bool {
    let mut dry = manifest.clone();
    dry["dry_run"] = json!(true);
    dry["prune"] = json!(true);
    let planned = steps(&gateway.apply(&dry).await);
    planned.iter().all(|step| step.starts_with("keep"))
}

/// Case E17.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_leaves_all_of_a_manifest_or_nothing() {
    let writes = (0..10).map(|nth| ("pwrite64", 1 + nth * 3));
    let flushes = (1..=3).map(|nth| ("fdatasync,fsync", nth));
    let steps = (0..repetitions(1, 20)).flat_map(|_| writes.clone().chain(flushes.clone()));
    let steps = steps.map(|(call, nth)| killed_at(call, nth));
    stream::iter(steps).buffer_unordered(2).collect::<()>().await;
}

/// Case E17.
#[tokio::test]
async fn a_kill_right_after_the_answer_loses_nothing() {
    let mut gateway = TestGateway::start().await;
    let manifest = everything(&gateway.artifact("c-hello").await);
    gateway.applied(&manifest).await;
    gateway.kill();
    gateway.start_again().await;
    assert_eq!(gateway.applied(&manifest).await, all("keep"));
    let gone = json!({"project": "shop", "prune": true});
    gateway.applied(&gone).await;
    gateway.kill();
    gateway.start_again().await;
    assert_eq!(gateway.applied(&gone).await, [] as [&str; 0]);
    assert_eq!(gateway.put("hello", guest("c-hello")).send().await.status(), 201);
    assert_eq!(gateway.get("/users/1").await.problem(), (404, "no-route"));
}
