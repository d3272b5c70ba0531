//! The state that a killed process leaves.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use store::{CallState, Digest, NextState, Store, StoreConfig};

use crate::{
    invocations::{NO_LIMITS, call, claim, finished},
    support::{TestStore, new, ours, publish},
};

/// The file that gives [`publisher`] its work. Without it there is none.
const ORDER: &str = "publish-until-killed";

/// Not a test of its own: `a_killed_publisher_…` starts it in another process, in a directory with
/// that file. It prints each name once it is published.
#[tokio::test]
async fn publisher() {
    let Ok(round) = fs::read_to_string(ORDER) else { return };
    let store = Store::open(&StoreConfig::new("store")).await.unwrap();
    let mut acknowledged = std::io::stdout();
    for n in 0.. {
        let name = format!("published-{round}-{n}");
        publish(&store, new(&name), name.as_bytes()).await.unwrap();
        acknowledged.write_all(format!("\n{name}\n").as_bytes()).unwrap();
    }
}

/// Returns the acknowledged names.
fn publish_until_killed(dir: &Path, round: usize) -> Vec<String> {
    fs::write(dir.join(ORDER), round.to_string()).unwrap();
    let mut publisher = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes::publisher", "--nocapture"])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(publisher.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut names = lines.filter(|line| line.starts_with("published-"));
    // A different number each time, so that the kill meets different steps.
    let mut acknowledged: Vec<_> = names.by_ref().take(3 + round).collect();
    publisher.kill().unwrap();
    acknowledged.extend(names);
    publisher.wait().unwrap();
    acknowledged
}

/// Case C01.
#[tokio::test]
async fn a_killed_publisher_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..8 {
        acknowledged.extend(publish_until_killed(dir.path(), round));
    }

    let store = Store::open(&StoreConfig::new(dir.path().join("store"))).await.unwrap();

    let all = store.all_active().await.unwrap();
    assert!(acknowledged.len() >= 8 * 3);
    for name in &acknowledged {
        assert!(all.iter().any(|active| active.function.name == *name), "{name} is lost");
    }
    // A function that was not acknowledged may exist, but then completely.
    for active in all {
        let bytes = fs::read(store.artifact_path(&active.revision.digest)).unwrap();
        assert_eq!(Digest::of(&bytes), active.revision.digest);
        assert_eq!(bytes, active.function.name.as_bytes());
    }
    assert_eq!(fs::read_dir(dir.path().join("store/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn opening_the_store_removes_an_upload_left_by_a_crash() {
    let test = TestStore::new().await;
    fs::write(test.dir.path().join("tmp/left"), b"never acknowledged").unwrap();

    let test = test.reopen().await;

    assert!(test.files("tmp").is_empty());
}

#[tokio::test]
async fn everything_survives_a_restart_without_a_close() {
    let TestStore { store, dir } = TestStore::new().await;
    let published = publish(&store, new("f"), b"x").await.unwrap();
    drop(store);

    // The threads of the old connections end independently.
    let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();

    let found = store.function(&ours(), "f").await.unwrap().unwrap();
    assert_eq!(found.revision, published.revision);
    assert!(store.open_artifact(&found.revision.digest).await.unwrap().is_some());
    let next = publish(&store, new("f"), b"y").await.unwrap();
    assert_eq!(next.revision.number, 2);
}

/// The file that gives [`caller`] its work.
const QUEUE_ORDER: &str = "queue-until-killed";

/// Not a test of its own: like [`publisher`], for calls. It enqueues, claims and finishes, some at a
/// time, and prints what it was told.
#[tokio::test]
async fn caller() {
    let Ok(round) = fs::read_to_string(QUEUE_ORDER) else { return };
    let store = Store::open(&StoreConfig::new("store")).await.unwrap();
    let mut told = std::io::stdout();
    let mut tell = |what: &str, id: &str| {
        told.write_all(format!("\n{what} {id}\n").as_bytes()).unwrap();
    };
    for n in 0.. {
        let id = format!("{round}-{n}");
        let both = tokio::join!(
            store.enqueue(vec![call(&id)], NO_LIMITS),
            store.enqueue(vec![call(&format!("{id}b"))], NO_LIMITS),
        );
        assert!(both.0.is_ok() && both.1.is_ok());
        tell("enqueued", &id);
        tell("enqueued", &format!("{id}b"));
        for claimed in store.claim(claim(1, 1_000)).await.unwrap().concat() {
            let done = finished(&claimed.id, claimed.attempt, NextState::Succeeded);
            assert_eq!(store.finish(vec![done]).await.unwrap(), 1);
            tell("finished", &claimed.id);
        }
    }
}

/// Case Q01.
#[tokio::test]
async fn a_killed_queue_loses_no_call_and_repeats_none_that_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    for round in 0..8 {
        fs::write(dir.path().join(QUEUE_ORDER), round.to_string()).unwrap();
        let mut caller = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crashes::caller", "--nocapture"])
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(caller.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut lines =
            lines.filter(|line| line.starts_with("enqueued ") || line.starts_with("finished "));
        told.extend(lines.by_ref().take(7 + round));
        caller.kill().unwrap();
        told.extend(lines);
        caller.wait().unwrap();
    }

    let store = Store::open(&StoreConfig::new(dir.path().join("store"))).await.unwrap();
    store.return_expired_leases(i64::MAX).await.unwrap();
    let again = store.claim(claim(100_000, 1_000)).await.unwrap().concat();

    let (enqueued, ended): (Vec<_>, Vec<_>) =
        told.iter().map(|line| line.split_at(9)).partition(|(what, _)| *what == "enqueued ");
    assert!(enqueued.len() >= 8 * 3 && ended.len() >= 8, "{told:?}");
    for (_, id) in &enqueued {
        let found = store.invocation(&ours(), id).await.unwrap();
        assert!(found.is_some(), "{id} is lost");
    }
    for (_, id) in &ended {
        let found = store.invocation(&ours(), id).await.unwrap().unwrap();
        assert_eq!(found.state, CallState::Succeeded, "{id}");
        assert!(!again.iter().any(|call| call.id == *id), "{id} would run again");
    }
}
