//! Requests that are sent again.

use store::{Error, IdempotentRequest, NewRevision, Quotas};

use crate::support::{TestStore, new, ours, publish, tenant};

const DAY_MS: i64 = 24 * 3_600 * 1_000;

fn request(key: &str) -> Option<IdempotentRequest<'_>> {
    Some(IdempotentRequest { key, token: "t", fingerprint: [7; 32] })
}

fn at(now_ms: i64, key: &'static str) -> NewRevision<'static> {
    NewRevision { request: request(key), now_ms, ..new("f") }
}

/// Case U15.
#[tokio::test]
async fn a_request_and_its_revision_are_remembered_for_a_day() {
    let test = TestStore::new().await;
    publish(&test.store, at(1_000, "a"), b"1").await.unwrap();
    test.publish("f", b"2").await;

    let found = test.store.recorded_reply(&ours(), "a", DAY_MS).await.unwrap().unwrap();
    assert_eq!((found.active.revision.number, found.created), (1, true));
    assert_eq!((found.active.function.active_revision, found.fingerprint), (2, [7; 32]));
    assert!(test.store.recorded_reply(&ours(), "b", DAY_MS).await.unwrap().is_none());
    assert!(test.store.recorded_reply(&tenant("other"), "a", DAY_MS).await.unwrap().is_none());
    assert!(test.store.recorded_reply(&ours(), "a", DAY_MS + 1_000).await.unwrap().is_none());

    // The key is free again, and the old row is gone.
    publish(&test.store, at(DAY_MS + 1_000, "a"), b"3").await.unwrap();
    let found = test.store.recorded_reply(&ours(), "a", DAY_MS + 1_000).await.unwrap().unwrap();
    assert_eq!(found.active.revision.number, 3);
}

/// Case U15.
#[tokio::test]
async fn a_request_that_is_not_published_is_not_remembered() {
    let test = TestStore::new().await;
    let refused =
        NewRevision { precondition: store::Precondition::ActiveRevision(1), ..at(1_000, "a") };
    publish(&test.store, refused, b"1").await.unwrap_err();
    let full = Quotas { idempotency_keys: 0, ..Quotas::default() };
    publish(&test.store, NewRevision { quotas: full, ..at(1_000, "a") }, b"1").await.unwrap_err();

    assert!(test.store.recorded_reply(&ours(), "a", 1_000).await.unwrap().is_none());
    assert!(test.store.function(&ours(), "f").await.unwrap().is_none());
}

/// Case U15.
#[tokio::test]
async fn a_deleted_functions_requests_are_not_remembered() {
    let test = TestStore::new().await;
    let published = publish(&test.store, at(1_000, "a"), b"1").await.unwrap();
    let active = test.store.function(&ours(), "f").await.unwrap().unwrap();
    let named = request("b").unwrap();
    test.store.record_reply(named, &active, &Quotas::default(), 1_000).await.unwrap();
    let found = test.store.recorded_reply(&ours(), "b", 1_001).await.unwrap().unwrap();
    assert_eq!((found.active.revision, found.created), (published.revision, false));

    test.store.delete_function(&ours(), "f").await.unwrap();

    for key in ["a", "b"] {
        assert!(test.store.recorded_reply(&ours(), key, 1_001).await.unwrap().is_none());
    }
}

/// Case U17.
#[tokio::test]
async fn one_token_leaves_keys_to_others() {
    let test = TestStore::new().await;
    let quotas = Quotas { idempotency_keys: 8, ..Quotas::default() };
    let send = async |token: &'static str, n: u32| {
        let key = format!("{token}-{n}");
        let request = Some(IdempotentRequest { key: &key, token, fingerprint: [7; 32] });
        publish(&test.store, NewRevision { request, quotas, ..new("f") }, b"1").await
    };
    for n in 0..7 {
        send("greedy", n).await.unwrap();
    }
    let refused = send("greedy", 7).await;
    assert!(matches!(refused, Err(Error::Quota { .. })), "{refused:?}");
    send("other", 0).await.unwrap();
    let full = send("third", 0).await;
    assert!(matches!(full, Err(Error::Quota { .. })), "{full:?}");
}
