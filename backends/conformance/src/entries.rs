//! Entries: what is written comes back, and only if it was expected.

use runtime_pool::{Entry, Expect, GuestStore, KeyPage, Put, Refused, Removed, StoreId, Written};

use crate::subject::{TestedBackend, put};

/// Case L01. Values of any bytes under keys of any text, the empty ones included.
pub async fn any_bytes_come_back_under_any_key(subject: TestedBackend) {
    let long = "k".repeat(1_024);
    let keys =
        ["", "a", "a\0b", "a\0", "\u{feff}x", "..", "../a", "%2e", "ä", "a\u{308}", "😀", &long];
    let every_byte: Vec<u8> = (0..=255).collect();
    for (index, key) in keys.iter().enumerate() {
        let value = [&[index as u8], &every_byte[..]].concat();
        subject.put(key, value).await.unwrap();
    }
    subject.put("empty", "").await.unwrap();

    for (index, key) in keys.iter().enumerate() {
        let value = subject.value(key).await.unwrap();
        assert_eq!((value[0], &value[1..]), (index as u8, &every_byte[..]), "{key:?}");
    }
    assert_eq!(subject.value("empty").await.unwrap(), "");
    assert_eq!(subject.get("other").await, None);
}

/// Case L01. Values that are not read at once.
pub async fn large_values_come_back(subject: TestedBackend) {
    for bytes in [65_535, 65_536, 65_537, 25 << 20] {
        let value: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
        subject.put("large", value.clone()).await.unwrap();
        assert!(subject.value("large").await.unwrap() == value, "{bytes} bytes");
        assert_eq!(subject.usage().await.bytes, bytes + 5);
    }
}

/// Case L01. Reads of many.
pub async fn several_entries_come_in_the_order_of_their_keys_up_to_a_size(subject: TestedBackend) {
    subject.put("a", "12345").await.unwrap();
    subject.put("b", "1234567890").await.unwrap();
    let keys = ["b", "missing", "a", "b"].map(str::to_owned);
    let (backend, store) = (subject.backend(), subject.store());

    let all = backend.get_many(store, &keys, 25).await.unwrap();
    let refused = backend.get_many(store, &keys, 24).await;

    let lens: Vec<_> = all.iter().map(|entry| entry.as_ref().map(|e| e.value.len())).collect();
    assert_eq!(lens, [Some(10), None, Some(5), Some(10)]);
    assert!(matches!(refused, Err(Refused::TooLarge { most: 24, .. })), "{refused:?}");
}

/// Case L02. Each expectation of a write and of a removal, with what may be there.
pub async fn a_write_happens_only_if_what_is_there_is_as_expected(subject: TestedBackend) {
    let write = async |expect| {
        subject.put_with(Put { expect, metadata: Some("m"), ..put("k", "new") }).await.unwrap()
    };
    let remove =
        async |expect| subject.backend().delete(subject.store(), "k", expect).await.unwrap();

    // Nothing is there.
    assert_eq!(write(Expect::Version(1)).await, Written::Conflict(None));
    assert_eq!(remove(Expect::Version(1)).await, Removed::Conflict);
    assert_eq!(remove(Expect::Absent).await, Removed::Nothing);
    assert_eq!(remove(Expect::Anything).await, Removed::Nothing);
    assert!(matches!(write(Expect::Absent).await, Written::Version(1..)));

    // Something is there.
    let entry = subject.get("k").await.unwrap();
    assert_eq!(entry.metadata.as_deref(), Some("m"));
    let conflict = |entry: &Entry| Written::Conflict(Some(entry.clone()));
    assert_eq!(write(Expect::Absent).await, conflict(&entry));
    assert_eq!(write(Expect::Version(entry.version + 1)).await, conflict(&entry));
    assert_eq!(remove(Expect::Absent).await, Removed::Conflict);
    assert_eq!(remove(Expect::Version(entry.version + 1)).await, Removed::Conflict);
    let Written::Version(version) = write(Expect::Version(entry.version)).await else {
        panic!("the version was right");
    };
    assert!(version > entry.version);
    assert_eq!(remove(Expect::Version(version)).await, Removed::Entry);
    assert_eq!(subject.get("k").await, None);
}

/// Case L02. Who has read a version never takes another entry for it.
pub async fn versions_grow_over_removals_and_clearings(subject: TestedBackend) {
    let mut last = 0;
    for round in 0..6 {
        let version = subject.put("k", "v").await.unwrap();
        assert!(version > last, "{version} after {last}");
        last = version;
        assert_eq!(subject.get("k").await.unwrap().version, version);
        let (backend, store) = (subject.backend(), subject.store());
        match round % 3 {
            0 => assert_eq!(backend.delete(store, "k", Expect::Anything).await, Ok(Removed::Entry)),
            1 => backend.clear(store).await.unwrap(),
            _ => {}
        }
    }
}

/// Case L01. Two stores with the same keys.
pub async fn stores_do_not_see_each_other(subject: TestedBackend) {
    let other = GuestStore::new(StoreId(2), 1 << 30, 1_000_000);
    let backend = subject.backend();
    subject.put("k", "mine").await.unwrap();

    assert_eq!(backend.get(&other, "k").await, Ok(None));
    backend.put(&other, put("k", "theirs")).await.unwrap();
    backend.clear(&other).await.unwrap();

    assert_eq!(subject.value("k").await.unwrap(), "mine");
    assert_eq!(backend.usage(&other).await.unwrap().keys, 0);
}

/// Case L11. Every operation on a store that was deleted, but for those that clear it.
pub async fn a_deleted_store_answers_nothing(subject: TestedBackend) {
    subject.put("k", "1").await.unwrap();
    let (backend, store) = (subject.backend(), subject.store());
    store.delete();
    let page = KeyPage { prefix: "", after: None, limit: 1 };

    assert!(matches!(backend.get_now(store, "k"), None | Some(Err(Refused::NoStore))));
    assert_eq!(backend.get(store, "k").await, Err(Refused::NoStore));
    assert_eq!(backend.get_many(store, &["k".to_owned()], 9).await, Err(Refused::NoStore));
    assert_eq!(backend.put(store, put("k", "2")).await, Err(Refused::NoStore));
    assert_eq!(backend.delete(store, "k", Expect::Anything).await, Err(Refused::NoStore));
    assert_eq!(backend.write_many(store, vec![("k".into(), None)]).await, Err(Refused::NoStore));
    assert_eq!(backend.increment(store, "k", 1).await, Err(Refused::NoStore));
    assert_eq!(backend.list(store, page).await, Err(Refused::NoStore));

    backend.clear(store).await.unwrap();
    assert_eq!(subject.usage().await.keys, 0);
}
