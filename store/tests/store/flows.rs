//! Flows, and the steps of their runs.

use store::{
    CallClaim, CallState, Cause, Error, Lane, LaneClaim, NewInvocation, NextState, PutDocument,
    Quota, StepAnswer, StepOutcome, StepRecord,
};

use crate::{
    invocations::{NO_LIMITS, call, finished},
    support::{TestStore, ours},
};

fn put(name: &str, document: &str) -> PutDocument {
    let (name, document) = (name.to_owned(), document.to_owned());
    PutDocument { tenant: ours(), name, document, now_ms: 10 }
}

/// A run of the flow 1.
fn run(id: &str) -> NewInvocation {
    NewInvocation { lane: Lane::Flow(1), cause: Cause::Flow, ..call(id) }
}

async fn claim(test: &TestStore) -> Vec<String> {
    let lane = LaneClaim { lane: Lane::Flow(1), calls: 9, bytes: u64::MAX };
    let claim = CallClaim { lanes: vec![lane], now_ms: 9_000, lease_until_ms: 9_500 };
    let claimed = test.store.claim(claim).await.unwrap();
    claimed.concat().into_iter().map(|call| call.id).collect()
}

fn step(path: &str, attempt: u32, outcome: StepOutcome) -> StepRecord {
    StepRecord {
        path: path.to_owned(),
        id: format!("id of {path}"),
        target: "f".to_owned(),
        outcome,
        attempt,
        status: Some(200),
        error: None,
        started_ms: 1,
        ended_ms: 2,
        answer: Some(StepAnswer {
            kind: 1,
            content_type: Some("text/plain".to_owned()),
            body: vec![b'x'; 1_000],
        }),
    }
}

async fn bytes(test: &TestStore) -> u64 {
    test.store.lane(Lane::Flow(1)).await.unwrap().unwrap().waiting_bytes
}

#[tokio::test]
async fn a_flow_is_read_as_it_was_set_and_its_id_is_never_used_again() {
    let test = TestStore::new().await;
    let (first, is_new) = test.store.put_flow(put("a", "one"), 1).await.unwrap();
    assert!(is_new);
    let (again, is_new) = test.store.put_flow(put("a", "two"), 1).await.unwrap();
    assert_eq!((again.id, &*again.document, is_new), (first.id, "two", false));
    let full = test.store.put_flow(put("b", ""), 1).await;
    assert!(matches!(full, Err(Error::Quota { quota: Quota::Flows, max: 1 })), "{full:?}");
    assert!(test.store.delete_flow(first.id).await.unwrap());
    let test = test.reopen().await;
    let (later, _) = test.store.put_flow(put("a", ""), 1).await.unwrap();
    assert!(later.id > first.id, "runs of the deleted one could be left");
    assert_eq!(test.store.all_flows().await.unwrap(), [later]);
}

/// Case W05.
#[tokio::test]
async fn a_step_is_recorded_once_by_the_current_attempt_and_goes_with_its_run() {
    let test = TestStore::new().await;
    test.store.enqueue(vec![run("a"), run("b")], NO_LIMITS).await.unwrap();
    assert!(!test.store.record_step("a", step("0", 0, StepOutcome::Done)).await.unwrap());
    assert_eq!(claim(&test).await, ["a", "b"]);
    let before = bytes(&test).await;
    assert!(test.store.record_step("a", step("0", 1, StepOutcome::Done)).await.unwrap());
    assert!(test.store.record_step("a", step("1", 1, StepOutcome::Failed)).await.unwrap());
    assert!(!test.store.record_step("a", step("2", 2, StepOutcome::Done)).await.unwrap());
    assert!(bytes(&test).await >= before + 2_000, "answers of steps count");
    let read = test.store.flow_steps("a").await.unwrap();
    assert_eq!(read, [step("0", 1, StepOutcome::Done), step("1", 1, StepOutcome::Failed)]);

    // The next attempt replaces the step that has failed.
    let next = finished("a", 1, NextState::Retry { due_ms: 3_000 });
    test.store.finish(vec![next]).await.unwrap();
    assert!(bytes(&test).await >= before + 2_000, "also while the run waits");
    assert_eq!(claim(&test).await, ["a"]);
    assert!(test.store.record_step("a", step("1", 2, StepOutcome::Done)).await.unwrap());
    let read = test.store.flow_steps("a").await.unwrap();
    assert_eq!(read, [step("0", 1, StepOutcome::Done), step("1", 2, StepOutcome::Done)]);

    // When the run has succeeded, nothing needs the answers.
    let done = finished("a", 2, NextState::Succeeded);
    test.store.finish(vec![done]).await.unwrap();
    let read = test.store.flow_steps("a").await.unwrap();
    assert!(read.iter().all(|step| step.answer.as_ref().unwrap().body.is_empty()), "{read:?}");
    let call = test.store.invocation(&ours(), "a").await.unwrap().unwrap();
    assert_eq!(call.state, CallState::Succeeded);
    assert_eq!(test.store.forget_lane(Lane::Flow(1)).await.unwrap(), 2);
    assert_eq!(test.store.flow_steps("a").await.unwrap(), []);
    let lane = test.store.lane(Lane::Flow(1)).await.unwrap().unwrap();
    assert_eq!((lane.due, lane.running, lane.done, lane.waiting_bytes), (0, 0, 0, 0));
}
