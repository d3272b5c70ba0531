//! Publishing, activating, changing, paging and deleting.

use std::{collections::BTreeMap, time::Instant};

use store::{Digest, Error, NewRevision, NewSettings, Precondition, Quotas, Settings};

use crate::support::{ACTOR, TestStore, new, ours, publish, settings, timeout};

#[tokio::test]
async fn the_first_publish_creates_the_function_and_the_next_only_a_revision() {
    let test = TestStore::new().await;

    let first = test.publish("greet", b"one").await;
    let second = test.publish("greet", b"two!").await;

    assert!(first.created_function && !second.created_function);
    assert_eq!((first.revision.number, second.revision.number), (1, 2));
    assert_eq!(first.function.id, second.function.id);
    let active = test.store.function(&ours(), "greet").await.unwrap().unwrap();
    assert_eq!(active.function, second.function);
    assert_eq!(active.revision, second.revision);
    assert_eq!(active.function.active_revision, 2);
    assert_eq!((active.revision.digest, active.revision.bytes), (Digest::of(b"two!"), 4));
    assert_eq!(active.revision.kind, "component");
    assert_eq!(test.store.function(&ours(), "other").await.unwrap(), None);
}

#[tokio::test]
async fn settings_are_inherited_unless_they_are_given() {
    let test = TestStore::new().await;
    let environment = BTreeMap::from([("KEY".to_owned(), "ключ\n\"quoted\"".to_owned())]);
    let outbound = vec!["*.example.com:8443".to_owned()];
    let limits = [("memory_bytes".to_owned(), u64::MAX), ("timeout_ms".to_owned(), 500)].into();
    let full = Settings { environment, outbound, limits, ..Settings::default() };

    let none = test.publish("f", b"one").await;
    let given = NewRevision { settings: Some(full.clone()), ..new("f") };
    let given = publish(&test.store, given, b"two").await.unwrap();
    let inherited = test.publish("f", b"three").await;

    assert_eq!(none.revision.settings, Settings::default());
    assert_eq!(given.revision.settings, full);
    assert_eq!(inherited.revision.settings, full);
}

#[tokio::test]
async fn a_publish_whose_precondition_fails_is_a_conflict_and_changes_nothing() {
    let test = TestStore::new().await;
    let expecting = |precondition| NewRevision { precondition, ..new("f") };

    let too_early = publish(&test.store, expecting(Precondition::ActiveRevision(1)), b"1").await;
    publish(&test.store, expecting(Precondition::Absent), b"1").await.unwrap();
    let too_late = publish(&test.store, expecting(Precondition::Absent), b"2").await;
    publish(&test.store, expecting(Precondition::ActiveRevision(1)), b"2").await.unwrap();
    let stale = publish(&test.store, expecting(Precondition::ActiveRevision(1)), b"3").await;

    for refused in [too_early, too_late, stale] {
        assert!(matches!(refused, Err(Error::Conflict)), "{refused:?}");
    }
    assert_eq!(test.store.revisions(&ours(), "f", None, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn changed_settings_are_a_revision_of_the_same_artifact() {
    let test = TestStore::new().await;
    let first = test.publish("f", b"one").await;

    let described = NewSettings { description: Some("quick"), ..settings("f", 1, 7) };
    let changed = test.store.change_settings(described).await.unwrap();
    let stale = test.store.change_settings(settings("f", 1, 8)).await;
    let absent = test.store.change_settings(settings("g", 1, 8)).await.unwrap();

    let changed = changed.unwrap();
    assert_eq!((changed.revision.number, changed.function.active_revision), (2, 2));
    assert_eq!(changed.revision.settings, timeout(7));
    assert_eq!(changed.function.description, "quick");
    assert_eq!(changed.revision.digest, first.revision.digest);
    assert_eq!((changed.revision.created_ms, changed.function.updated_ms), (2_000, 2_000));
    assert_eq!(changed.function.created_ms, 1_000);
    assert!(matches!(stale, Err(Error::Conflict)), "{stale:?}");
    assert_eq!(absent, None);
    let first_again = test.store.revision(&ours(), "f", 1).await.unwrap().unwrap();
    assert_eq!(first_again, first.revision);
}

#[tokio::test]
async fn an_older_revision_can_be_activated_and_its_number_is_not_reused() {
    let test = TestStore::new().await;
    let first = test.publish("f", b"one").await;
    test.publish("f", b"two").await;

    let back = test.store.activate(&ours(), "f", 1, ACTOR, 5_000).await.unwrap().unwrap();
    let missing = test.store.activate(&ours(), "f", 9, ACTOR, 6_000).await.unwrap();
    let absent = test.store.activate(&ours(), "g", 1, ACTOR, 6_000).await.unwrap();
    let third = test.publish("f", b"three").await;

    assert_eq!(back.revision, first.revision);
    assert_eq!((back.function.active_revision, back.function.updated_ms), (1, 5_000));
    assert_eq!((missing, absent), (None, None));
    assert_eq!(third.revision.number, 3);
}

#[tokio::test]
async fn a_description_belongs_to_the_function() {
    let test = TestStore::new().await;
    test.publish("f", b"one").await;

    let described = test.store.describe(&ours(), "f", "says hello", 2_000).await.unwrap();
    let absent = test.store.describe(&ours(), "g", "?", 2_000).await.unwrap();
    let next = test.publish("f", b"two").await;

    assert_eq!(described.unwrap().function.description, "says hello");
    assert_eq!(absent, None);
    assert_eq!(next.function.description, "says hello");
}

/// Case U15.
#[tokio::test]
async fn no_two_states_of_a_function_have_the_same_version() {
    let test = TestStore::new().await;
    let mut versions = vec![test.publish("f", b"one").await.function.version];
    let version =
        async || test.store.function(&ours(), "f").await.unwrap().unwrap().function.version;
    test.publish("f", b"two").await;
    versions.push(version().await);
    test.store.describe(&ours(), "f", "described", 2_000).await.unwrap();
    versions.push(version().await);
    for revision in [1, 2] {
        test.store.activate(&ours(), "f", revision, ACTOR, 3_000).await.unwrap();
        versions.push(version().await);
    }
    test.store.change_settings(settings("f", 2, 7)).await.unwrap();
    versions.push(version().await);
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
}

/// Case U17.
#[tokio::test]
async fn the_oldest_inactive_revisions_make_room_for_new_ones() {
    let test = TestStore::new().await;
    let quotas = Quotas { revisions_per_function: 2, ..Quotas::default() };
    for artifact in [&b"one"[..], b"two"] {
        let published = publish(&test.store, NewRevision { quotas, ..new("f") }, artifact).await;
        assert!(published.unwrap().removed_revisions.is_empty());
    }
    // The active one is never removed, however old it is, until another one is active.
    test.store.activate(&ours(), "f", 1, ACTOR, 3_000).await.unwrap();
    let other = publish(&test.store, NewRevision { quotas, ..new("g") }, b"one").await.unwrap();
    assert!(other.removed_revisions.is_empty(), "each function has its own");
    let third = NewSettings { quotas, ..settings("f", 1, 7) };
    let third = test.store.change_settings(third).await.unwrap().unwrap();
    assert_eq!((third.revision.number, third.removed_revisions), (3, vec![1]));
    let left = test.store.revisions(&ours(), "f", None, 9).await.unwrap();
    assert_eq!(left.iter().map(|left| left.number).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(test.store.activate(&ours(), "f", 1, ACTOR, 4_000).await.unwrap(), None);
    // A quota that is lowered holds with the next change.
    let quotas = Quotas { revisions_per_function: 1, ..quotas };
    let fourth = publish(&test.store, NewRevision { quotas, ..new("f") }, b"four").await.unwrap();
    assert_eq!((fourth.revision.number, fourth.removed_revisions), (4, vec![2, 3]));
}

#[tokio::test]
async fn a_deleted_function_is_gone_and_its_id_is_not_reused() {
    let test = TestStore::new().await;
    let first = test.publish("f", b"one").await;
    let other = test.publish("other", b"one").await;

    assert!(test.store.delete_function(&ours(), "f").await.unwrap());
    assert!(!test.store.delete_function(&ours(), "f").await.unwrap());
    assert_eq!(test.store.function(&ours(), "f").await.unwrap(), None);
    assert_eq!(test.store.revisions(&ours(), "f", None, 9).await.unwrap(), []);

    let again = test.publish("f", b"one").await;
    assert!(again.created_function && again.revision.number == 1);
    assert!(again.function.id > first.function.id.max(other.function.id));
}

#[tokio::test]
async fn functions_are_paged_by_name_and_revisions_backwards_by_number() {
    let test = TestStore::new().await;
    for name in ["b", "a", "d", "c"] {
        test.publish(name, b"x").await;
    }
    test.publish("a", b"y").await;
    test.publish("a", b"z").await;

    let names = async |after, limit| {
        let page = test.store.functions(&ours(), after, limit).await.unwrap();
        page.into_iter().map(|active| active.function.name).collect::<Vec<_>>()
    };
    let numbers = async |before, limit| {
        let page = test.store.revisions(&ours(), "a", before, limit).await.unwrap();
        page.into_iter().map(|revision| revision.number).collect::<Vec<_>>()
    };

    assert_eq!(names(None, 3).await, ["a", "b", "c"]);
    assert_eq!(names(Some("c"), 3).await, ["d"]);
    assert_eq!(names(Some("d"), 3).await, [""; 0]);
    assert_eq!(numbers(None, 2).await, [3, 2]);
    assert_eq!(numbers(Some(2), 2).await, [1]);
    assert_eq!(numbers(Some(1), 2).await, [0; 0]);
}

#[tokio::test]
async fn only_the_active_artifact_counts_as_already_uploaded() {
    let test = TestStore::new().await;
    test.publish("f", b"one").await;
    test.publish("f", b"two").await;
    let active = async |bytes| {
        test.store.is_active_digest(&ours(), "f", &Digest::of(bytes)).await.unwrap().is_some()
    };

    assert!(active(b"two").await);
    assert!(!active(b"one").await);
}

#[tokio::test]
async fn names_are_text_and_never_paths_or_sql() {
    let test = TestStore::new().await;
    let names = ["../../etc/passwd", "'; DROP TABLE functions; --", "a\0b", "%", "🦟", ""];
    let before = test.files("").len();

    for name in names {
        test.publish(name, b"x").await;
    }

    for name in names {
        let found = test.store.function(&ours(), name).await.unwrap().unwrap();
        assert_eq!(found.function.name, name);
    }
    test.until_no_upload_is_left().await;
    assert_eq!(test.files("").len(), before + 1, "one artifact");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_publishes_that_expect_the_same_revision_one_succeeds() {
    let test = TestStore::new().await;
    test.publish("f", b"zero").await;

    let tasks: Vec<_> = (0..50_u8)
        .map(|n| {
            let store = test.store.clone();
            let new = NewRevision { precondition: Precondition::ActiveRevision(1), ..new("f") };
            tokio::spawn(async move { publish(&store, new, &[n]).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let conflict = |outcome: &&Result<_, Error>| matches!(outcome, Err(Error::Conflict));
    assert_eq!(outcomes.iter().filter(conflict).count(), 49, "{outcomes:?}");
}

#[tokio::test]
async fn ten_thousand_active_functions_are_read_at_once() {
    let test = TestStore::new().await;
    test.publish("f", b"x").await;
    let mut db = test.other_client("mayfly.db").await;
    sqlx::raw_sql(
        "BEGIN;
         WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
         INSERT INTO functions (id, tenant, name, active_revision, created_ms, updated_ms)
         SELECT i, 'default', 'f' || i, 1, 0, 0 FROM n;
         INSERT INTO revisions (function_id, number, digest, kind, settings, created_ms)
         SELECT f.id, 1, r.digest, r.kind, r.settings, 0 FROM functions f, revisions r
         WHERE f.id > 1 AND r.function_id = 1;
         COMMIT;",
    )
    .execute(&mut db)
    .await
    .unwrap();

    let begun = Instant::now();
    let all = test.store.all_active().await.unwrap();
    let took = begun.elapsed();

    assert_eq!(all.len(), 10_000);
    assert!(all.is_sorted_by_key(|active| active.function.id));
    // The promise is a start within 2 s for 1,000 functions. This asks for ten times as many, and
    // takes about 0.1 s in an unoptimised build.
    assert!(took.as_secs_f64() < 2.0, "{took:?}");
}
