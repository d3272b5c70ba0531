//! The queue of calls.

use std::collections::HashSet;

use store::{
    CallClaim, CallState, Cause, Dedup, EnqueueLimits, EnqueueOutcome, Error, Finished, Invocation,
    InvocationFilter, KeepInvocations, Lane, LaneClaim, NewInvocation, NextState, Quota,
    RemovedInvocations, StoredAnswer, StoredFields, StoredRequest,
};

use crate::support::{TestStore, ours, tenant};

pub(crate) const NO_LIMITS: EnqueueLimits = EnqueueLimits { lane_calls: 1 << 40, bytes: 1 << 50 };

/// A call of the function 7, due at once.
pub(crate) fn call(id: &str) -> NewInvocation {
    NewInvocation {
        id: id.to_owned(),
        tenant: ours(),
        lane: Lane::Function(7),
        function: "seven".to_owned(),
        function_id: 7,
        channel: None,
        revision: None,
        cause: Cause::Http,
        source: None,
        context: "{}".to_owned(),
        request: StoredRequest {
            method: "POST".to_owned(),
            target: "/a?b".to_owned(),
            fields: StoredFields(vec![("x".to_owned(), vec![0xff])]),
            body: b"sent".to_vec(),
        },
        created_ms: 1_000,
        due_ms: 1_000,
        expires_ms: 9_000,
        dedup: None,
    }
}

pub(crate) fn claim(most: u32, now_ms: i64) -> CallClaim {
    let lane = LaneClaim { lane: Lane::Function(7), calls: most, bytes: u64::MAX };
    CallClaim { lanes: vec![lane], now_ms, lease_until_ms: now_ms + 100 }
}

pub(crate) fn finished(id: &str, attempt: u32, next: NextState) -> Finished {
    let id = id.to_owned();
    Finished { id, attempt, next, error: None, answer: None, follow_ups: Vec::new(), now_ms: 2_000 }
}

fn ids(calls: &[Invocation]) -> Vec<&str> {
    calls.iter().map(|call| call.id.as_str()).collect()
}

async fn get(test: &TestStore, id: &str) -> Invocation {
    test.store.invocation(&ours(), id).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_call_is_read_as_it_was_enqueued_and_answered() {
    let test = TestStore::new().await;
    let new = NewInvocation {
        channel: Some("prod".to_owned()),
        revision: Some(3),
        cause: Cause::Schedule,
        source: Some("nightly".to_owned()),
        ..call("a")
    };
    test.store.enqueue(vec![new.clone()], NO_LIMITS).await.unwrap();

    let claimed = test.store.claim(claim(5, 1_000)).await.unwrap().concat();
    let read = &claimed[0];
    assert_eq!((&read.id, &read.request, read.cause), (&new.id, &new.request, new.cause));
    assert_eq!(
        (&read.channel, read.revision, &read.source),
        (&new.channel, new.revision, &new.source)
    );
    assert_eq!((read.state, read.attempt), (CallState::Running, 1));
    assert_eq!(test.store.invocation(&tenant("other"), "a").await.unwrap(), None);

    let answer = StoredAnswer {
        status: 201,
        fields: StoredFields(vec![("content-type".to_owned(), b"text/plain".to_vec())]),
        body: b"done".to_vec(),
        cut: true,
    };
    let done = Finished { answer: Some(answer.clone()), ..finished("a", 1, NextState::Succeeded) };
    assert_eq!(test.store.finish(vec![done.clone()]).await.unwrap(), 1);
    assert_eq!(test.store.finish(vec![done]).await.unwrap(), 0, "it has ended already");

    let read = get(&test, "a").await;
    assert_eq!((read.answer, read.state), (Some(answer), CallState::Succeeded));
    assert_eq!(read.finished_ms, Some(2_000));
    assert_eq!(read.request.body, b"", "it will not run again");
}

#[tokio::test]
async fn calls_are_claimed_in_the_order_in_which_they_are_due_and_only_once() {
    let test = TestStore::new().await;
    let due = |id, due_ms| NewInvocation { due_ms, ..call(id) };
    let other = NewInvocation { lane: Lane::Delivery(7), ..call("other") };
    let new = vec![due("b", 20), due("a", 10), due("late", 5_000), due("c", 30), other];
    test.store.enqueue(new, NO_LIMITS).await.unwrap();

    assert_eq!(ids(&test.store.claim(claim(2, 1_000)).await.unwrap().concat()), ["a", "b"]);
    assert_eq!(ids(&test.store.claim(claim(2, 1_000)).await.unwrap().concat()), ["c"]);
    assert_eq!(ids(&test.store.claim(claim(2, 1_000)).await.unwrap().concat()), [""; 0]);
    let lanes = test.store.lanes().await.unwrap();
    let lane = lanes.iter().find(|totals| totals.lane == Lane::Function(7)).unwrap();
    assert_eq!((lane.due, lane.running, lane.dead, lane.first_due_ms), (1, 3, 0, Some(5_000)));
}

#[tokio::test]
async fn an_attempt_whose_lease_is_over_is_taken_over_and_cannot_finish() {
    let test = TestStore::new().await;
    test.store.enqueue(vec![call("a"), call("b")], NO_LIMITS).await.unwrap();
    test.store.claim(claim(2, 1_000)).await.unwrap();
    assert_eq!(test.store.renew_leases(&["b".to_owned()], 9_000).await.unwrap(), 1);

    assert_eq!(test.store.return_expired_leases(2_000).await.unwrap(), 1);
    let again = test.store.claim(claim(2, 2_000)).await.unwrap().concat();

    assert_eq!((ids(&again), again[0].attempt), (vec!["a"], 2));
    assert!(again[0].last_error.as_ref().unwrap().contains("ended during"), "{again:?}");
    let late = finished("a", 1, NextState::Succeeded);
    assert_eq!(test.store.finish(vec![late]).await.unwrap(), 0);
    assert_eq!(get(&test, "a").await.state, CallState::Running);
}

#[tokio::test]
async fn an_attempt_that_was_handed_back_does_not_count_and_a_failed_one_does() {
    let test = TestStore::new().await;
    test.store.enqueue(vec![call("back"), call("again")], NO_LIMITS).await.unwrap();
    test.store.claim(claim(2, 1_000)).await.unwrap();

    let next = |id, next| Finished { error: Some("busy".to_owned()), ..finished(id, 1, next) };
    let next = vec![
        next("back", NextState::HandedBack { due_ms: 3_000 }),
        next("again", NextState::Retry { due_ms: 4_000 }),
    ];
    assert_eq!(test.store.finish(next).await.unwrap(), 2);

    let (back, again) = (get(&test, "back").await, get(&test, "again").await);
    assert_eq!((back.state, back.attempt, back.due_ms), (CallState::Due, 0, 3_000));
    assert_eq!((again.state, again.attempt, again.due_ms), (CallState::Due, 1, 4_000));
    assert_eq!(again.last_error.as_deref(), Some("busy"));
}

#[tokio::test]
async fn a_call_that_its_client_sends_again_is_one_call() {
    let test = TestStore::new().await;
    let named = |id, key, fingerprint| NewInvocation {
        dedup: Some(Dedup { key: [key; 32], fingerprint: [fingerprint; 32] }),
        ..call(id)
    };
    let new = vec![named("a", 1, 1), named("b", 1, 1), named("c", 1, 2), named("d", 2, 1)];
    let mut outcomes = Vec::new();
    for new in new {
        outcomes.extend(test.store.enqueue(vec![new], NO_LIMITS).await.unwrap());
    }

    let outcomes: Vec<_> = outcomes.iter().map(|done| (done.id.as_str(), done.outcome)).collect();
    let expected = [
        ("a", EnqueueOutcome::New),
        ("a", EnqueueOutcome::Known),
        ("a", EnqueueOutcome::Mismatch),
        ("d", EnqueueOutcome::New),
    ];
    assert_eq!(outcomes, expected);
    let same_id = test.store.enqueue(vec![call("a")], NO_LIMITS).await.unwrap();
    assert_eq!(same_id[0].outcome, EnqueueOutcome::Known);
    assert_eq!(test.store.claim(claim(9, 1_000)).await.unwrap().concat().len(), 2);
}

/// Case Q03.
#[tokio::test]
async fn a_full_lane_refuses_and_leaves_the_last_eighth_of_the_bytes_to_others() {
    let test = TestStore::new().await;
    let calls = EnqueueLimits { lane_calls: 2, bytes: 1 << 30 };
    test.store.enqueue(vec![call("a"), call("b")], calls).await.unwrap();
    let full = test.store.enqueue(vec![call("c")], calls).await;
    assert!(matches!(full, Err(Error::Quota { quota: Quota::QueuedCalls, max: 2 })), "{full:?}");
    // Those that run count, and those that have ended do not.
    test.store.claim(claim(2, 1_000)).await.unwrap();
    assert!(test.store.enqueue(vec![call("c")], calls).await.is_err());
    test.store.finish(vec![finished("a", 1, NextState::Dead)]).await.unwrap();
    test.store.enqueue(vec![call("c")], calls).await.unwrap();

    let large = |id: &str, lane| {
        let request = StoredRequest { body: vec![0; 1 << 20], ..call(id).request };
        NewInvocation { lane: Lane::Function(lane), request, ..call(id) }
    };
    let bytes = EnqueueLimits { lane_calls: 100, bytes: 8 << 20 };
    let mut admitted = 0;
    while test.store.enqueue(vec![large(&format!("l{admitted}"), 8)], bytes).await.is_ok() {
        admitted += 1;
    }
    assert_eq!(admitted, 6, "a lane alone takes seven eighths at most");
    test.store.enqueue(vec![large("other", 9)], bytes).await.unwrap();
    let full = test.store.enqueue(vec![large("more", 9)], bytes).await;
    assert!(matches!(full, Err(Error::Quota { quota: Quota::QueuedBytes, .. })), "{full:?}");
    // Refused together with one that fits: all or none.
    let small = NewInvocation { lane: Lane::Function(10), ..call("small") };
    assert!(test.store.enqueue(vec![small, large("more", 9)], bytes).await.is_err());
    assert_eq!(test.store.invocation(&ours(), "small").await.unwrap(), None);
}

#[tokio::test]
async fn dead_calls_are_listed_redriven_under_their_ids_and_purged() {
    let test = TestStore::new().await;
    let other = NewInvocation { function: "eight".to_owned(), ..call("other") };
    test.store.enqueue(vec![call("a"), call("b"), other, call("waits")], NO_LIMITS).await.unwrap();
    test.store.claim(claim(3, 1_000)).await.unwrap();
    let dead = |id| Finished { error: Some("no".to_owned()), ..finished(id, 1, NextState::Dead) };
    test.store.finish(vec![dead("a"), dead("b"), dead("other")]).await.unwrap();

    let state = Some(CallState::Dead);
    let filter = InvocationFilter { function: Some("seven".to_owned()), state, lane: None };
    let list = async |filter: &InvocationFilter, before| {
        let list = test.store.invocations(&ours(), filter, before, 1).await.unwrap();
        list.first().map(|call| (call.id.clone(), call.seq))
    };
    let first = list(&filter, None).await.unwrap();
    assert_eq!(first.0, "b");
    let second = list(&filter, Some(first.1)).await.unwrap();
    assert_eq!(second.0, "a");
    assert_eq!(list(&filter, Some(second.1)).await, None);

    let redriven = test.store.redrive_invocations(&ours(), &filter, Some("a"), 50_000).await;
    assert_eq!(redriven.unwrap(), 1);
    let a = get(&test, "a").await;
    assert_eq!((a.state, a.attempt, a.due_ms, a.expires_ms), (CallState::Due, 0, 50_000, 58_000));
    assert_eq!(a.request, call("a").request);
    assert_eq!(test.store.redrive_invocations(&tenant("x"), &filter, None, 0).await.unwrap(), 0);
    assert_eq!(test.store.purge_invocations(&ours(), &filter, None).await.unwrap(), 1);
    let any = InvocationFilter::default();
    assert_eq!(test.store.purge_invocations(&ours(), &any, Some("other")).await.unwrap(), 1);

    assert!(test.store.cancel_invocation(&ours(), "waits", 3_000).await.unwrap());
    assert!(!test.store.cancel_invocation(&ours(), "waits", 3_000).await.unwrap());
    test.store.claim(claim(9, 60_000)).await.unwrap();
    assert!(!test.store.cancel_invocation(&ours(), "a", 3_000).await.unwrap(), "it runs");
    assert_eq!(test.store.purge_invocations(&ours(), &any, None).await.unwrap(), 1);
    assert_eq!(get(&test, "a").await.state, CallState::Running);
}

#[tokio::test]
async fn trimming_removes_what_is_old_too_much_or_too_large() {
    let test = TestStore::new().await;
    let names: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    let new = names.iter().map(|name| call(name)).collect();
    test.store.enqueue(new, NO_LIMITS).await.unwrap();
    test.store.claim(claim(20, 1_000)).await.unwrap();
    let ended = names.iter().enumerate().map(|(n, name)| Finished {
        now_ms: 10_000 + i64::try_from(n).unwrap(),
        ..finished(name, 1, if n < 10 { NextState::Succeeded } else { NextState::Dead })
    });
    test.store.finish(ended.collect()).await.unwrap();

    let keep = KeepInvocations {
        results_before_ms: 10_003,
        dead_before_ms: 10_011,
        per_lane: 8,
        bytes: u64::MAX,
    };
    let removed = test.store.trim_invocations(keep).await.unwrap();
    assert_eq!(removed, RemovedInvocations { results: 3, dead: 2 });
    assert_eq!(test.store.invocation(&ours(), "c2").await.unwrap(), None);
    assert_eq!(get(&test, "c3").await.state, CallState::Succeeded);
    assert_eq!(test.store.invocation(&ours(), "c11").await.unwrap(), None);
    assert_eq!(get(&test, "c12").await.state, CallState::Dead);

    let removed = test.store.trim_invocations(KeepInvocations { bytes: 0, ..keep }).await.unwrap();
    assert_eq!(removed, RemovedInvocations { results: 7, dead: 8 });
    assert_eq!(test.store.lanes().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_many_callers_at_once_are_all_stored_and_a_refused_one_fails_alone() {
    let test = TestStore::new().await;
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..2_000 {
        let store = test.store.clone();
        callers.spawn(async move {
            let limits = if n % 100 == 0 {
                EnqueueLimits { lane_calls: 0, bytes: 1 << 30 }
            } else {
                NO_LIMITS
            };
            store.enqueue(vec![call(&format!("c{n}"))], limits).await.is_ok()
        });
    }
    let admitted = callers.join_all().await.into_iter().filter(|admitted| *admitted).count();

    assert_eq!(admitted, 1_980);
    let claimed = test.store.claim(claim(5_000, 1_000)).await.unwrap().concat();
    let all: HashSet<_> = claimed.iter().map(|call| &call.id).collect();
    assert_eq!(all.len(), 1_980);
}

#[tokio::test]
async fn calls_that_follow_are_stored_with_the_end_of_the_first() {
    let test = TestStore::new().await;
    test.store.enqueue(vec![call("a")], NO_LIMITS).await.unwrap();
    test.store.claim(claim(1, 1_000)).await.unwrap();
    let follow = NewInvocation { cause: Cause::Callback, ..call("callback") };
    let done = Finished { follow_ups: vec![follow], ..finished("a", 1, NextState::Succeeded) };

    let late = Finished { attempt: 2, ..done.clone() };
    assert_eq!(test.store.finish(vec![late]).await.unwrap(), 0);
    assert_eq!(test.store.invocation(&ours(), "callback").await.unwrap(), None);
    assert_eq!(test.store.finish(vec![done]).await.unwrap(), 1);
    assert_eq!(get(&test, "callback").await.cause, Cause::Callback);
}
