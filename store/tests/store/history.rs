//! The history of a function, and going back.

use proptest::prelude::*;
use store::{Action, Actor, Change, Error, NewRevision, Quotas, Release};

use crate::support::{ACTOR, TestStore, new, ours, publish, settings};

const OTHER: Actor<'static> = Actor { token: "o", origin: "192.0.2.1" };

fn steps(changes: &[Change]) -> Vec<(Action, Option<u32>, u32)> {
    changes.iter().rev().map(|change| (change.action, change.before, change.after)).collect()
}

#[tokio::test]
async fn every_change_of_the_active_revision_is_recorded_with_its_actor() {
    let test = TestStore::new().await;
    test.publish("f", b"one").await;
    publish(&test.store, NewRevision { actor: OTHER, ..new("f") }, b"two").await.unwrap();
    test.store.change_settings(settings("f", 2, 7)).await.unwrap();
    test.store.activate(&ours(), "f", 1, OTHER, 5_000).await.unwrap().unwrap();
    test.store.activate(&ours(), "f", 9, OTHER, 6_000).await.unwrap();

    let history = test.store.history(&ours(), "f", None, 10).await.unwrap();

    assert_eq!(
        steps(&history),
        [
            (Action::Deploy, None, 1),
            (Action::Deploy, Some(1), 2),
            (Action::Settings, Some(2), 3),
            (Action::Activate, Some(3), 1),
        ]
    );
    let newest = &history[0];
    assert_eq!((newest.number, newest.made_ms), (4, 5_000));
    assert_eq!((&*newest.token, &*newest.origin), ("o", "192.0.2.1"));
    assert_eq!(test.store.history(&ours(), "f", Some(3), 1).await.unwrap(), history[2..3]);
    assert_eq!(test.store.history(&ours(), "g", None, 10).await.unwrap(), []);
    let second = test.store.revision(&ours(), "f", 2).await.unwrap().unwrap();
    assert_eq!((&*second.deployed_by, &*second.deployed_from), ("o", "192.0.2.1"));
}

#[tokio::test]
async fn roll_backs_go_back_one_by_one_and_then_no_further() {
    let test = TestStore::new().await;
    for artifact in [b"one".as_slice(), b"two", b"three"] {
        test.publish("f", artifact).await;
    }
    let back = async || test.store.roll_back(&ours(), "f", ACTOR, 5_000).await;

    assert_eq!(back().await.unwrap().unwrap().revision.number, 2);
    assert_eq!(back().await.unwrap().unwrap().revision.number, 1);
    assert!(matches!(back().await, Err(Error::Conflict)));
    test.store.activate(&ours(), "f", 3, ACTOR, 6_000).await.unwrap();
    let undone = back().await.unwrap().unwrap();
    assert_eq!(undone.revision.number, 1, "revision 1 was active before 3 was activated");
    assert_eq!(undone.function.active_revision, 1);
    assert_eq!(test.store.roll_back(&ours(), "g", ACTOR, 5_000).await.unwrap(), None);
}

#[tokio::test]
async fn a_roll_back_does_not_go_to_a_revision_that_was_removed() {
    let test = TestStore::new().await;
    let quotas = Quotas { revisions_per_function: 1, ..Quotas::default() };
    test.publish("f", b"one").await;
    publish(&test.store, NewRevision { quotas, ..new("f") }, b"two").await.unwrap();

    let refused = test.store.roll_back(&ours(), "f", ACTOR, 5_000).await;

    assert!(matches!(refused, Err(Error::Conflict)), "{refused:?}");
}

#[tokio::test]
async fn a_version_belongs_to_one_artifact_of_a_function() {
    let test = TestStore::new().await;
    let release = |version: &str| Release {
        semver: Some(version.to_owned()),
        labels: [("commit".to_owned(), "4be1f0c".to_owned())].into(),
    };
    let versioned = |version| NewRevision { release: release(version), ..new("f") };

    let first = publish(&test.store, versioned("1.0.0"), b"one").await.unwrap();
    let taken = publish(&test.store, versioned("1.0.0"), b"two").await;
    let again = publish(&test.store, versioned("1.0.0"), b"one").await.unwrap();
    let changed = test.store.change_settings(settings("f", 2, 7)).await.unwrap().unwrap();
    let other = NewRevision { release: release("1.0.0"), ..new("g") };

    assert_eq!(first.revision.release, release("1.0.0"));
    assert!(matches!(taken, Err(Error::VersionTaken)), "{taken:?}");
    assert_eq!(again.revision.number, 2);
    assert_eq!(changed.revision.release, release("1.0.0"), "the artifact is the same");
    publish(&test.store, other, b"two").await.unwrap();
    let unversioned = test.publish("f", b"three").await;
    assert_eq!(unversioned.revision.release, Release::default());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The stack of revisions by which the current one became active: a change pushes onto it, and
    /// a roll-back takes from it.
    #[test]
    fn changes_and_roll_backs_in_any_order_leave_what_a_model_says(
        steps in prop::collection::vec(0u32..6, 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let test = TestStore::new().await;
            test.publish("f", b"0").await;
            let (mut active, mut newest) = (1, 1);
            let mut reached = std::collections::HashMap::<u32, u32>::new();
            for step in steps {
                match step {
                    0 | 1 => {
                        let next = test.publish("f", newest.to_string().as_bytes()).await;
                        newest += 1;
                        prop_assert_eq!(next.revision.number, newest);
                        reached.insert(newest, active);
                        active = newest;
                    }
                    2 | 3 => {
                        let back = test.store.roll_back(&ours(), "f", ACTOR, 1).await;
                        match reached.get(&active) {
                            Some(before) => {
                                active = *before;
                                prop_assert_eq!(back.unwrap().unwrap().revision.number, active);
                            }
                            None => prop_assert!(matches!(back, Err(Error::Conflict))),
                        }
                    }
                    number => {
                        let to = number.min(newest);
                        test.store.activate(&ours(), "f", to, ACTOR, 1).await.unwrap().unwrap();
                        if to != active {
                            reached.insert(to, active);
                        }
                        active = to;
                    }
                }
                let history = test.store.history(&ours(), "f", None, 1).await.unwrap();
                prop_assert_eq!(history[0].after, active);
            }
            Ok(())
        })?;
    }
}
