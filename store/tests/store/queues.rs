//! Named queues and their messages.

use store::{
    CallClaim, CallState, Cause, Dedup, EnqueueLimits, EnqueueOutcome, Error, Finished,
    InvocationFilter, Lane, LaneClaim, LaneTotals, MessagePage, MovedMessages, NewInvocation,
    NextState, PutDocument, Quota, StoredFields, StoredRequest, WaitingMessage,
};

use crate::{
    invocations::{NO_LIMITS, call, finished},
    support::{TestStore, ours, tenant},
};

fn put(name: &str, document: &str, now_ms: i64) -> PutDocument {
    let (name, document) = (name.to_owned(), document.to_owned());
    PutDocument { tenant: ours(), name, document, now_ms }
}

/// A message of a queue, due at once.
fn message(queue: i64, id: &str) -> NewInvocation {
    NewInvocation {
        lane: Lane::Queue(queue),
        function: String::new(),
        function_id: 0,
        cause: Cause::Queue,
        source: Some("orders".to_owned()),
        ..call(id)
    }
}

fn claim(queue: i64, calls: u32, bytes: u64) -> CallClaim {
    let lane = LaneClaim { lane: Lane::Queue(queue), calls, bytes };
    CallClaim { lanes: vec![lane], now_ms: 1_000, lease_until_ms: 2_000 }
}

async fn claimed(test: &TestStore, queue: i64, calls: u32, bytes: u64) -> Vec<String> {
    let claimed = test.store.claim(claim(queue, calls, bytes)).await.unwrap();
    claimed.into_iter().flatten().map(|call| call.id).collect()
}

async fn listed(test: &TestStore, queue: i64, state: CallState) -> Vec<WaitingMessage> {
    let page = MessagePage { state, after: 0, limit: 10, body_bytes: 3 };
    test.store.messages(queue, page).await.unwrap()
}

async fn totals(test: &TestStore, queue: i64) -> Option<LaneTotals> {
    test.store.lane(Lane::Queue(queue)).await.unwrap()
}

#[tokio::test]
async fn a_queue_is_read_as_it_was_set_and_its_id_is_never_used_again() {
    let test = TestStore::new().await;
    let (first, is_new) = test.store.put_queue(put("orders", "{}", 10), 2).await.unwrap();
    assert!(is_new);
    let (again, is_new) = test.store.put_queue(put("orders", "{\"a\":1}", 20), 2).await.unwrap();
    assert!(!is_new);
    assert_eq!((again.id, again.created_ms, again.updated_ms), (first.id, 10, 20));
    assert_eq!(again.document, "{\"a\":1}");
    let theirs = PutDocument { tenant: tenant("other"), ..put("orders", "{}", 10) };
    let (theirs, _) = test.store.put_queue(theirs, 2).await.unwrap();
    assert_ne!(theirs.id, first.id);
    let full = test.store.put_queue(put("more", "{}", 10), 2).await;
    assert!(matches!(full, Err(Error::Quota { quota: Quota::Queues, max: 2 })), "{full:?}");

    assert!(test.store.delete_queue(theirs.id).await.unwrap());
    assert!(!test.store.delete_queue(theirs.id).await.unwrap());
    let test = test.reopen().await;
    let (later, _) = test.store.put_queue(put("more", "{}", 10), 2).await.unwrap();
    assert!(later.id > theirs.id, "messages of the deleted one could be left");
    let all: Vec<_> = test.store.all_queues().await.unwrap().into_iter().map(|q| q.name).collect();
    assert_eq!(all, ["more", "orders"]);
}

/// Case B01.
#[tokio::test]
async fn messages_are_claimed_by_number_and_bytes_and_seen_without_being_taken() {
    let test = TestStore::new().await;
    let sized = |id: &str, bytes: usize| {
        let request = StoredRequest { body: vec![b'x'; bytes], ..call(id).request };
        NewInvocation { request, ..message(1, id) }
    };
    let new = vec![sized("a", 4_000), sized("b", 4_000), sized("c", 4_000), sized("d", 9_000)];
    test.store.enqueue(new, NO_LIMITS).await.unwrap();
    test.store.enqueue(vec![message(2, "other")], NO_LIMITS).await.unwrap();

    let peeked = listed(&test, 1, CallState::Due).await;
    assert_eq!(peeked.iter().map(|m| &*m.id).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert_eq!((&*peeked[0].body, peeked[0].body_bytes), (&b"xxx"[..], 4_000));
    assert_eq!(peeked[0].source.as_deref(), Some("orders"));
    let page = MessagePage { state: CallState::Due, after: peeked[1].seq, limit: 1, body_bytes: 0 };
    let next = test.store.messages(1, page).await.unwrap();
    assert_eq!((next.len(), &*next[0].id, next[0].body_bytes), (1, "c", 4_000));
    let lane = totals(&test, 1).await.unwrap();
    assert_eq!((lane.due, lane.running, lane.oldest_ms), (4, 0, Some(1_000)));
    assert!(lane.waiting_bytes > 21_000, "{lane:?}");

    // The one that exceeds the bytes is the last one.
    assert_eq!(claimed(&test, 1, 10, 5_000).await, ["a", "b"]);
    assert_eq!(claimed(&test, 1, 1, 1 << 20).await, ["c"]);
    assert_eq!(claimed(&test, 1, 10, 1).await, ["d"]);
    assert_eq!(totals(&test, 1).await.unwrap().running, 4);
    assert_eq!(totals(&test, 3).await, None);
}

/// Case B02.
#[tokio::test]
async fn a_batch_is_added_as_a_whole_or_not_at_all() {
    let test = TestStore::new().await;
    let named = |id: &str, key, fingerprint| NewInvocation {
        dedup: Some(Dedup { key: [key; 32], fingerprint: [fingerprint; 32] }),
        ..message(1, id)
    };
    test.store.enqueue(vec![named("a", 1, 1)], NO_LIMITS).await.unwrap();
    let outcomes = async |new: Vec<NewInvocation>| {
        let done = test.store.enqueue(new, NO_LIMITS).await.unwrap();
        done.into_iter().map(|done| (done.id, done.outcome)).collect::<Vec<_>>()
    };
    let mixed = outcomes(vec![message(1, "b"), named("c", 1, 2), named("d", 1, 1)]).await;
    let expected = [
        ("b".to_owned(), EnqueueOutcome::NotAdded),
        ("a".to_owned(), EnqueueOutcome::Mismatch),
        ("a".to_owned(), EnqueueOutcome::Known),
    ];
    assert_eq!(mixed, expected);
    assert_eq!(totals(&test, 1).await.unwrap().due, 1);
    let added = outcomes(vec![message(1, "b"), named("d", 1, 1)]).await;
    assert_eq!(added[0].1, EnqueueOutcome::New);
    assert_eq!(totals(&test, 1).await.unwrap().due, 2);

    let two = EnqueueLimits { lane_calls: 3, bytes: 1 << 40 };
    let full = test.store.enqueue(vec![message(1, "e"), message(1, "f")], two).await;
    assert!(matches!(full, Err(Error::Quota { quota: Quota::Messages, max: 3 })), "{full:?}");
    assert_eq!(totals(&test, 1).await.unwrap().due, 2);
}

/// Case B04.
#[tokio::test]
async fn a_message_that_is_moved_keeps_its_id_and_leaves_its_queue() {
    let test = TestStore::new().await;
    let named = NewInvocation {
        dedup: Some(Dedup { key: [1; 32], fingerprint: [1; 32] }),
        ..message(1, "a")
    };
    test.store.enqueue(vec![named.clone(), message(1, "b")], NO_LIMITS).await.unwrap();
    // The other queue has a message of the same name.
    let other = NewInvocation { lane: Lane::Queue(2), id: "z".to_owned(), ..named };
    test.store.enqueue(vec![other], NO_LIMITS).await.unwrap();
    assert_eq!(claimed(&test, 1, 1, 1 << 20).await, ["a"]);
    let moved = Finished {
        error: Some("no".to_owned()),
        ..finished("a", 1, NextState::Moved { lane: Lane::Queue(2), expires_ms: 7_000 })
    };
    assert_eq!(test.store.finish(vec![moved.clone()]).await.unwrap(), 1);
    assert_eq!(test.store.finish(vec![moved]).await.unwrap(), 0, "it is not that attempt any more");

    let (one, two) = (totals(&test, 1).await.unwrap(), totals(&test, 2).await.unwrap());
    assert_eq!((one.due, one.running, two.due, two.running), (1, 0, 2, 0));
    let there = listed(&test, 2, CallState::Due).await;
    let there = there.iter().find(|message| message.id == "a").unwrap();
    assert_eq!((there.attempt, there.created_ms, there.expires_ms), (0, 2_000, 7_000));
    assert_eq!((there.body_bytes, there.last_error.as_deref()), (4, Some("no")));
    assert_eq!(there.fields, StoredFields(vec![("x".to_owned(), vec![0xff])]));
    assert_eq!(claimed(&test, 2, 9, 1 << 20).await.len(), 1, "it is due when it was moved");
}

/// Case B04.
#[tokio::test]
async fn messages_that_expire_are_dead_or_moved_and_dead_ones_go() {
    let test = TestStore::new().await;
    let until = |id: &str, expires_ms| NewInvocation { expires_ms, ..message(1, id) };
    let moved_before = NewInvocation { source: Some("first".to_owned()), ..until("d", 4_000) };
    let new = vec![until("a", 3_000), until("b", 4_000), until("c", 9_000), moved_before];
    test.store.enqueue(new, NO_LIMITS).await.unwrap();
    let expire = async |moved, now_ms| {
        test.store.expire_messages(1, moved, "too old", now_ms).await.unwrap()
    };
    assert_eq!(expire(None, 2_999).await, 0);
    assert_eq!(expire(None, 3_000).await, 1);
    let moved = MovedMessages { queue: 2, expires_ms: 8_000, source: "orders".to_owned() };
    assert_eq!(expire(Some(moved), 5_000).await, 1, "none moves twice");
    assert_eq!(expire(None, 5_000).await, 1);
    let dead = listed(&test, 1, CallState::Dead).await;
    assert_eq!(dead.iter().map(|message| &*message.id).collect::<Vec<_>>(), ["a", "d"]);
    assert_eq!((&*dead[0].id, dead[0].last_error.as_deref()), ("a", Some("too old")));
    assert_eq!(dead[0].finished_ms, Some(3_000));
    let moved = listed(&test, 2, CallState::Due).await;
    assert_eq!((&*moved[0].id, moved[0].due_ms, moved[0].expires_ms), ("b", 5_000, 8_000));
    let (one, two) = (totals(&test, 1).await.unwrap(), totals(&test, 2).await.unwrap());
    assert_eq!((one.due, one.dead, two.due), (1, 2, 1));
    let lanes = test.store.queue_lanes().await.unwrap();
    assert_eq!(lanes, [one, two]);

    let filter = InvocationFilter { lane: Some(Lane::Queue(2)), ..InvocationFilter::default() };
    let of_two = test.store.invocations(&ours(), &filter, None, 10).await.unwrap();
    assert_eq!(of_two.iter().map(|call| &*call.id).collect::<Vec<_>>(), ["b"]);
    assert_eq!(test.store.trim_dead_messages(1, 3_000).await.unwrap(), 0);
    assert_eq!(test.store.trim_dead_messages(1, 3_001).await.unwrap(), 1);

    assert_eq!(claimed(&test, 1, 1, 1 << 20).await, ["c"]);
    assert_eq!(test.store.forget_lane(Lane::Queue(1)).await.unwrap(), 2, "one that runs goes, too");
    let late = test.store.finish(vec![finished("c", 1, NextState::Succeeded)]).await.unwrap();
    assert_eq!(late, 0);
    let lane = totals(&test, 1).await.unwrap();
    assert_eq!((lane.due, lane.running, lane.dead, lane.waiting_bytes), (0, 0, 0, 0));
}
