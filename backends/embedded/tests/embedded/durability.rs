//! A process that writes is killed: what it has acknowledged is there.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use backend_embedded::Sqlite;
use runtime_pool::{GuestStore, KeyPage, KeyValue as _, StoreId, StoreUsage};

/// Writes for some time in another process, and kills it. Returns the keys that were acknowledged.
fn write_and_kill(dir: &Path, time: Duration) -> Vec<String> {
    let mut writer = Command::new(env!("CARGO_BIN_EXE_kv-writer-for-tests"))
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(writer.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    let reader = thread::spawn(move || {
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        rest
    });
    thread::sleep(time);
    // SIGKILL.
    writer.kill().unwrap();
    writer.wait().unwrap();
    let written = first + &reader.join().unwrap();
    let end = written.rfind('\n').unwrap();
    written[..end].lines().map(str::to_owned).collect()
}

/// Opens what was left, and looks for each of them; and counts everything again.
async fn check(dir: &Path, acknowledged: &[String]) {
    let backend = Sqlite::open(dir, Arc::new(|| 0)).unwrap();
    let store = GuestStore::new(StoreId(1), u64::MAX, u64::MAX);
    for key in acknowledged {
        let entry = backend.get(&store, key).await.unwrap();
        let entry = entry.unwrap_or_else(|| panic!("{key} was acknowledged and is not there"));
        assert_eq!(entry.value, key.repeat(50));
    }
    let page = KeyPage { prefix: "", after: None, limit: 1 << 20 };
    let keys = backend.list(&store, page).await.unwrap().keys;
    let mut counted = StoreUsage::default();
    for key in &keys {
        let entry = backend.get(&store, &key.name).await.unwrap().unwrap();
        counted.keys += 1;
        counted.bytes += (key.name.len() + entry.value.len()) as u64;
    }
    assert_eq!(backend.usage(&store).await.unwrap(), counted);
    let count = backend.get(&store, "count").await.unwrap().unwrap().value;
    let count: usize = std::str::from_utf8(&count).unwrap().parse().unwrap();
    assert!(count >= acknowledged.len() && count < keys.len(), "{count} of {}", keys.len());
    backend.clear(&store).await.unwrap();
    backend.close();
}

/// Case L08.
#[tokio::test]
async fn a_killed_writer_loses_nothing_that_it_has_acknowledged() {
    let rounds = if std::env::var_os("MAYFLY_LONG").is_some() { 50 } else { 3 };
    let dir = tempfile::tempdir().unwrap();
    for round in 0..rounds {
        let time = Duration::from_millis(50 + round * 37 % 400);
        let acknowledged = write_and_kill(dir.path(), time);
        check(dir.path(), &acknowledged).await;
    }
}

#[tokio::test]
async fn what_was_closed_is_opened_again_and_an_unknown_store_can_be_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = GuestStore::new(StoreId(7), u64::MAX, u64::MAX);
    let backend = Sqlite::open(dir.path(), Arc::new(|| 0)).unwrap();
    backend.increment(&store, "n", 1).await.unwrap();
    backend.close();
    assert!(backend.increment(&store, "n", 1).await.is_err());

    let backend = Sqlite::open(dir.path(), Arc::new(|| 0)).unwrap();
    assert_eq!(backend.increment(&store, "n", 1).await, Ok(2));
    assert_eq!(backend.stores().await.unwrap(), [StoreId(7)]);

    // What is left of a deleted store is cleared with its usage.
    store.delete();
    backend.clear(&store).await.unwrap();
    assert!(backend.stores().await.unwrap().is_empty());
}
