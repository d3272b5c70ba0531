//! Expiry, with a clock that the test moves.

use std::time::Duration;

use runtime_pool::{Expect, Put, Removed, Written};

use crate::subject::{TestedBackend, put};

async fn put_for(subject: &TestedBackend, key: &str, ms: u64) {
    let ttl = Some(Duration::from_millis(ms));
    subject.put_with(Put { ttl, ..put(key, "value") }).await.unwrap();
}

/// Case L05. An entry whose time has come is not read, not listed, not expected and not counted on.
pub async fn what_has_expired_is_not_there(subject: TestedBackend) {
    put_for(&subject, "short", 1_000).await;
    put_for(&subject, "long", 5_000).await;
    let expires_ms = subject.get("short").await.unwrap().expires_ms;
    assert_eq!(subject.list("", None, 9).await.keys[1].expires_ms, expires_ms);

    subject.pass(999);
    assert!(subject.get("short").await.is_some());
    subject.pass(1);

    assert_eq!(subject.get("short").await, None);
    let keys = ["short", "long"].map(str::to_owned);
    let several = subject.backend().get_many(subject.store(), &keys, 99).await.unwrap();
    assert!(several[0].is_none() && several[1].is_some());
    let list = subject.list("", None, 9).await;
    assert_eq!(list.keys.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["long"]);
    let removed = subject.backend().delete(subject.store(), "short", Expect::Anything).await;
    assert_eq!(removed, Ok(Removed::Nothing));
    let written = subject.put_with(Put { expect: Expect::Absent, ..put("short", "again") }).await;
    assert!(matches!(written, Ok(Written::Version(_))));
    assert_eq!(subject.get("short").await.unwrap().expires_ms, None);
    // An addition begins with nothing, and without an end.
    put_for(&subject, "count", 10).await;
    subject.pass(10);
    assert_eq!(subject.increment("count", 4).await, Ok(4));
    assert_eq!(subject.get("count").await.unwrap().expires_ms, None);
}

/// Case L05. Some time later the room of what has expired is free.
pub async fn what_has_expired_is_removed_from_the_usage(subject: TestedBackend) {
    for index in 0..250 {
        put_for(&subject, &format!("{index:03}"), 1_000).await;
    }
    subject.put("stays", "12345").await.unwrap();
    assert_eq!(subject.usage().await.keys, 251);

    subject.pass(1_000);
    let mut usage = subject.usage().await;
    for _ in 0..100 {
        if usage.keys == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        subject.put("stays", "12345").await.unwrap();
        usage = subject.usage().await;
    }
    assert_eq!((usage.keys, usage.bytes), (1, 10));
}

/// Case L05. A full store takes new entries as soon as others have expired.
pub async fn what_has_expired_makes_room(subject: TestedBackend) {
    subject.store().set_quota(u64::MAX, 2);
    put_for(&subject, "a", 1_000).await;
    put_for(&subject, "b", 1_000).await;
    assert!(subject.put("c", "3").await.is_err());

    subject.pass(1_000);
    subject.put("c", "3").await.unwrap();
    subject.put("a", "1").await.unwrap();

    assert_eq!(subject.usage().await.keys, 2);
}
