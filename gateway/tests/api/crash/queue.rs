//! `kill -9` at each step of the queue: no call that was acknowledged is lost, and none runs under
//! another id.

use std::path::PathBuf;

use futures_util::{StreamExt as _, stream};

use super::points::PublishStep;
use crate::{
    asynchronous::{call, ended},
    hostile_uploads::repetitions,
    test_gateway::TestGateway,
};

/// The steps in which a call is enqueued, claimed and finished. `published` says whether the call
/// must have been acknowledged.
fn steps() -> Vec<PublishStep> {
    let wal = || Some(PathBuf::from("queue.db-wal"));
    let step = |name, call, nth, path, published| PublishStep { name, call, nth, path, published };
    let (no, either) = (Some(false), None);
    vec![
        step("the call is written", "pwrite64", "1", wal(), no),
        step("more of the call is written", "pwrite64", "4", wal(), no),
        step("the call is flushed", "fsync", "1", wal(), no),
        step("it is claimed", "fsync", "2", wal(), either),
        step("its end is stored", "fsync", "3", wal(), either),
        step("the answer is sent", "sendto,writev", "1", None, either),
    ]
}

async fn killed_at(step: PublishStep) {
    let at = step.name;
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    assert_eq!(gateway.get("/f/t-cgi-env/").await.status(), 200);
    let strace = step.inject(&gateway, "signal=KILL").await;
    let named = |gateway: &TestGateway| {
        call(gateway, "/f/t-cgi-env/").header("idempotency-key", "one").body("sent")
    };
    let answer = named(&gateway).try_send().await.ok();
    assert!(!gateway.exit().await.success(), "{at}: it was not killed");
    drop(strace);
    let acknowledged = answer.map(|answer| answer.json()["id"].as_str().unwrap().to_owned());
    if step.published == Some(false) {
        assert_eq!(acknowledged, None, "{at}");
    }

    gateway.start_again().await;
    // The client repeats its call: it is the same one, if the first was stored.
    let again = named(&gateway).send().await;
    assert_eq!(again.status(), 202, "{at}: {again:?}");
    let id = again.json()["id"].as_str().unwrap();
    if let Some(acknowledged) = acknowledged {
        assert_eq!(acknowledged, id, "{at}: the call was lost");
    }
    let done = ended(&gateway, id).await;
    assert_eq!(done["state"], "succeeded", "{at}: {done}");
    assert!(done["attempts"].as_u64().unwrap() <= 2, "{at}: {done}");
    let guest = done["answer"]["body"].as_str().unwrap();
    assert!(guest.contains(&format!("HTTP_IDEMPOTENCY_KEY={id}\n")), "{at}: {guest}");
    let all = gateway.api("/v1/invocations").await;
    assert_eq!(all.json()["invocations"].as_array().unwrap().len(), 1, "{at}: {all:?}");
}

/// Case Q01.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_of_the_queue_loses_no_call_and_changes_no_id() {
    let all = (0..repetitions(1, 50)).flat_map(|_| steps());
    stream::iter(all.map(killed_at)).buffer_unordered(2).collect::<()>().await;
}
