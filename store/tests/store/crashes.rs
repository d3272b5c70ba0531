//! The state that a killed process leaves.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use store::{Digest, Store, StoreConfig};

use crate::support::{TestStore, new, ours, publish};

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
