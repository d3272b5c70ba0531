//! Backups, and what is restored from them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use store::{BackupParts, Error, RestoreError, Store, StoreConfig, check_backup, restore};
use tar::{Builder, EntryType, Header};

use crate::support::{TestStore, ours};

const ALL: BackupParts = BackupParts { logs: true, keys: true };

async fn archive(store: &Store, parts: BackupParts) -> Vec<u8> {
    let backup = store.backup(parts, async |_| Ok(Vec::new())).await.unwrap();
    let mut archive = Vec::new();
    let size = backup.write_to(&mut archive, "1.2.3", 1_000).unwrap();
    assert!(size.bytes > 0 && (size.bytes as usize) < archive.len());
    archive
}

/// A store with two functions, one of whose artifacts is lost, and its archive.
async fn filled() -> (TestStore, Vec<u8>) {
    let test = TestStore::new().await;
    test.publish("a", b"the artifact of a").await;
    test.publish("b", b"the artifact of b").await;
    let lost = store::Digest::of(b"the artifact of b");
    fs::remove_file(test.store.artifact_path(&lost)).unwrap();
    let archive = archive(&test.store, ALL).await;
    (test, archive)
}

/// Case Z01.
#[tokio::test]
async fn a_restored_directory_holds_what_the_store_held() {
    let (test, archive) = filled().await;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("below/data");
    let restored = restore(&archive[..], &directory).unwrap();
    assert_eq!((&*restored.version, restored.created_ms), ("1.2.3", 1_000));
    let lost = store::Digest::of(b"the artifact of b").to_string();
    assert_eq!(restored.missing, [format!("artifacts/{}/{lost}.wasm", &lost[..2])]);
    assert_eq!(check_backup(&archive[..]).unwrap(), restored);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);

    let store = Store::open(&StoreConfig::new(&directory)).await.unwrap();
    let found = store.function(&ours(), "a").await.unwrap().unwrap();
    assert_eq!(found, test.store.function(&ours(), "a").await.unwrap().unwrap());
    assert!(store.is_whole(&found.revision.digest).await.unwrap());
    // The copy lives on by itself.
    drop(test);
    assert!(store.is_whole(&found.revision.digest).await.unwrap());
}

/// Case Z02.
#[tokio::test]
async fn there_is_one_backup_at_a_time_and_none_leaves_anything() {
    let test = TestStore::new().await;
    test.publish("a", b"the artifact of a").await;
    let first = test.store.backup(ALL, async |_| Ok(Vec::new())).await.unwrap();
    let second = test.store.backup(ALL, async |_| Ok(Vec::new())).await;
    assert!(matches!(second, Err(Error::BackupRunning)), "{second:?}");
    drop(first);
    assert!(!test.dir.path().join("backup").exists());
    let failed = test.store.backup(ALL, async |_| Err(std::io::Error::other("no"))).await;
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    assert!(!test.dir.path().join("backup").exists());
    // What a crash leaves is gone after the next start.
    std::mem::forget(test.store.backup(ALL, async |_| Ok(Vec::new())).await.unwrap());
    let test = test.reopen().await;
    assert!(!test.dir.path().join("backup").exists());
}

/// Case Z02.
#[tokio::test]
async fn an_artifact_that_is_removed_while_a_backup_is_sent_is_in_it() {
    let test = TestStore::new().await;
    let published = test.publish("a", b"the artifact of a").await;
    let backup = test.store.backup(ALL, async |_| Ok(Vec::new())).await.unwrap();
    test.store.delete_function(&ours(), "a").await.unwrap();
    let removed = test.store.collect_garbage(i64::MAX).await.unwrap();
    assert_eq!(removed, [published.active.digest]);
    let mut archive = Vec::new();
    backup.write_to(&mut archive, "1", 0).unwrap();
    let directory = tempfile::tempdir().unwrap();
    restore(&archive[..], directory.path()).unwrap();
    let store = Store::open(&StoreConfig::new(directory.path())).await.unwrap();
    assert!(store.is_whole(&published.active.digest).await.unwrap());
}

/// Case Z02.
#[tokio::test]
async fn logs_and_keys_can_be_left_out() {
    let test = TestStore::new().await;
    fs::write(test.dir.path().join("admin.token"), "the token").unwrap();
    for (logs, keys) in [(true, true), (true, false), (false, true)] {
        let archive = archive(&test.store, BackupParts { logs, keys }).await;
        let directory = tempfile::tempdir().unwrap();
        restore(&archive[..], directory.path()).unwrap();
        let has = |name: &str| directory.path().join(name).exists();
        assert_eq!((has("logs.db"), has("admin.token")), (logs, keys));
        assert!(has("mayfly.db") && has("queue.db"));
    }
}

/// Case Z03.
#[tokio::test]
async fn an_archive_that_was_cut_or_changed_restores_nothing() {
    let (_test, archive) = filled().await;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("data");
    let refused = |bytes: &[u8]| {
        let error = restore(bytes, &directory).unwrap_err();
        let left = fs::read_dir(parent.path()).unwrap().count();
        assert_eq!(left, 0, "{error}: something was left");
        assert!(check_backup(bytes).is_err());
        error
    };
    for length in (0..archive.len() - 1_024).step_by(5_003) {
        let error = refused(&archive[..length]);
        assert!(
            matches!(error, RestoreError::CutShort | RestoreError::NotABackup(_)),
            "{length}: {error:?}"
        );
    }
    // A byte of a database, which SQLite itself might not miss.
    let at = archive.windows(15).position(|bytes| bytes == b"SQLite format 3").unwrap() + 2_000;
    let mut changed = archive.clone();
    changed[at] ^= 1;
    assert!(matches!(refused(&changed), RestoreError::Damaged(name) if name == "queue.db"));
    assert!(matches!(refused(b""), RestoreError::NotABackup(_) | RestoreError::CutShort));
    assert!(matches!(refused(&[b'x'; 4_096]), RestoreError::NotABackup(_)));

    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("mine"), "kept").unwrap();
    assert!(matches!(restore(&archive[..], &directory), Err(RestoreError::NotEmpty(_))));
    assert_eq!(fs::read_to_string(directory.join("mine")).unwrap(), "kept");
}

fn entry(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, content: &[u8]) {
    let mut header = Header::new_old();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o777);
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn crafted(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let about = br#"{"format":1,"version":"1","created_ms":0}"#;
    entry(&mut tar, EntryType::Regular, "mayfly-backup.json", about);
    for (kind, name, content) in entries {
        entry(&mut tar, *kind, name, content);
    }
    entry(&mut tar, EntryType::Regular, "contents.json", br#"{"files":[],"missing":[]}"#);
    tar.into_inner().unwrap()
}

/// Case Z03.
#[test]
fn a_name_or_a_kind_that_no_backup_has_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("data");
    let names = [
        "../out",
        "/out",
        "artifacts/../../out",
        "artifacts//x",
        "artifacts/.x",
        "state/",
        "lock",
        "control.sock",
        "code/seal.key",
        "artifacts/a b",
        "artifacts/\u{e9}",
        "mayfly.db/x",
        "state",
    ];
    for name in names {
        let error = restore(&crafted(&[(EntryType::Regular, name, b"x")])[..], &directory);
        assert!(matches!(error, Err(RestoreError::NotABackup(_))), "{name}: {error:?}");
    }
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Fifo] {
        let error = restore(&crafted(&[(kind, "mayfly.db", b"")])[..], &directory);
        assert!(matches!(error, Err(RestoreError::NotABackup(_))), "{kind:?}: {error:?}");
    }
    let twice =
        [(EntryType::Regular, "mayfly.db", &b"1"[..]), (EntryType::Regular, "mayfly.db", b"2")];
    assert!(restore(&crafted(&twice)[..], &directory).is_err());
    let mut newer = Builder::new(Vec::new());
    let about = br#"{"format":2,"version":"9.9","created_ms":0}"#;
    entry(&mut newer, EntryType::Regular, "mayfly-backup.json", about);
    let error = restore(&newer.into_inner().unwrap()[..], &directory).unwrap_err();
    assert!(error.to_string().contains("mayfly 9.9 has made this backup"), "{error}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    assert!(!Path::new("/out").exists());
}
