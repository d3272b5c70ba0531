//! Trees of files: what is stored once, what is refused, and what is collected.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use store::{
    Digest, Error, FilesSetting, NewRevision, NewTree, Quota, Quotas, Result, Settings, Store,
    Tenant, TreeRecord,
};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::support::{TestStore, new, ours, publish, settings, tenant};

const END_OF_TIME: i64 = i64::MAX;

/// Stores a tree of files with these contents. What a list looks like is not the store's concern.
async fn put(
    store: &Store,
    owner: &Tenant,
    contents: &[&str],
    quotas: Quotas,
    now_ms: i64,
) -> Result<(TreeRecord, bool)> {
    let mut upload = store.begin_tree();
    let contents: Vec<String> = contents.iter().map(|content| (*content).to_owned()).collect();
    let (files, bytes) = (contents.len(), contents.iter().map(String::len).sum::<usize>());
    let (upload, digest) = spawn_blocking(move || {
        let mut list = Vec::new();
        for content in contents {
            let mut blob = upload.begin_blob().unwrap();
            for part in content.as_bytes().chunks(3) {
                blob.write(part).unwrap();
            }
            list.push(blob.finish().to_string());
        }
        let mut blob = upload.begin_blob().unwrap();
        blob.write(list.join("\n").as_bytes()).unwrap();
        let digest = blob.finish();
        (upload, digest)
    })
    .await
    .unwrap();
    let (files, bytes) = (files as u64, bytes as u64);
    let new = NewTree { tenant: owner.clone(), digest, files, bytes, quotas, now_ms };
    store.put_tree(upload, new).await
}

async fn put_ours(store: &Store, contents: &[&str], now_ms: i64) -> TreeRecord {
    put(store, &ours(), contents, Quotas::default(), now_ms).await.unwrap().0
}

fn with(tree: Digest) -> Settings {
    Settings { files: Some(FilesSetting { tree, at: None }), ..Settings::default() }
}

fn with_tree(function: &str, tree: Digest) -> NewRevision<'_> {
    NewRevision { settings: Some(with(tree)), ..new(function) }
}

async fn read(store: &Store, content: &str) -> Option<Vec<u8>> {
    store.read_blob(&Digest::of(content.as_bytes()), 1_000).await.unwrap()
}

#[tokio::test]
async fn files_of_several_trees_are_stored_once_and_read_back() {
    let test = TestStore::new().await;
    let (one, is_new) =
        put(&test.store, &ours(), &["shared", "one", "one"], Quotas::default(), 5).await.unwrap();
    assert!(is_new);
    assert_eq!((one.files, one.bytes, one.created_ms), (3, 12, 5));
    let (again, is_new) =
        put(&test.store, &ours(), &["shared", "one", "one"], Quotas::default(), 9).await.unwrap();
    assert!(!is_new);
    assert_eq!(again, one);
    let two = put_ours(&test.store, &["shared", "two"], 6).await;
    assert_ne!(one.digest, two.digest);

    // Three contents and two lists.
    assert_eq!(test.files("artifacts").len(), 5);
    assert_eq!(read(&test.store, "shared").await.unwrap(), b"shared");
    assert!(test.store.blob_path(&Digest::of(b"two")).is_file());
    for file in test.files("artifacts") {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has {mode:o}", file.display());
    }
    let test = test.reopen().await;
    assert_eq!(test.store.tree(&ours(), &one.digest).await.unwrap(), Some(one));
    test.until_no_upload_is_left().await;
}

#[tokio::test]
async fn a_large_tree_is_moved_and_synced_as_a_whole() {
    let test = TestStore::new().await;
    let contents: Vec<String> = (0..300).map(|n| format!("content {n}")).collect();
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    put_ours(&test.store, &contents, 1).await;
    assert_eq!(test.files("artifacts").len(), 301);
    assert_eq!(read(&test.store, "content 299").await.unwrap(), b"content 299");
}

/// Case Y05.
#[tokio::test]
async fn a_digest_gives_a_tenant_no_tree_of_another_one() {
    let test = TestStore::new().await;
    let tree = put_ours(&test.store, &["a secret"], 1).await;
    assert_eq!(test.store.tree(&tenant("other"), &tree.digest).await.unwrap(), None);

    let stranger = NewRevision { tenant: tenant("other"), ..with_tree("f", tree.digest) };
    let refused = publish(&test.store, stranger, b"x").await;
    assert!(matches!(refused, Err(Error::NoSuchTree)), "{refused:?}");
    let unknown = publish(&test.store, with_tree("f", Digest::of(b"?")), b"x").await;
    assert!(matches!(unknown, Err(Error::NoSuchTree)), "{unknown:?}");
    assert!(test.store.all_active().await.unwrap().is_empty());

    publish(&test.store, with_tree("f", tree.digest), b"x").await.unwrap();
    let other = store::NewSettings { settings: with(Digest::of(b"?")), ..settings("f", 1, 1) };
    let refused = test.store.change_settings(other).await;
    assert!(matches!(refused, Err(Error::NoSuchTree)), "{refused:?}");
}

#[tokio::test]
async fn a_damaged_file_is_not_read_and_another_upload_repairs_it() {
    let test = TestStore::new().await;
    put_ours(&test.store, &["content"], 1).await;
    let path = test.store.blob_path(&Digest::of(b"content"));
    fs::write(&path, b"changed").unwrap();
    assert_eq!(read(&test.store, "content").await, None);
    put_ours(&test.store, &["content"], 1).await;
    assert_eq!(read(&test.store, "content").await.unwrap(), b"content");
    fs::remove_file(&path).unwrap();
    assert_eq!(read(&test.store, "content").await, None);
}

/// Case Y07.
#[tokio::test]
async fn the_quotas_count_each_file_once_and_refuse_before_anything_is_moved() {
    let test = TestStore::new().await;
    test.publish("f", &[7; 100]).await;
    // A list of 129 bytes: two digests.
    let bytes = |artifact_bytes| Quotas { artifact_bytes, ..Quotas::default() };
    let refused = put(&test.store, &ours(), &["one", "two"], bytes(100 + 129 + 5), 1).await;
    let is_bytes = |refused: &Result<_>| {
        matches!(refused, Err(Error::Quota { quota: Quota::ArtifactBytes, .. }))
    };
    assert!(is_bytes(&refused), "{refused:?}");
    assert_eq!(test.files("artifacts").len(), 1, "only the artifact");
    let exact = bytes(100 + 129 + 6);
    put(&test.store, &ours(), &["one", "two"], exact, 1).await.unwrap();
    // All of it is there.
    put(&test.store, &tenant("other"), &["one", "two"], bytes(0), 1).await.unwrap();
    let refused = put(&test.store, &ours(), &["one"], exact, 1).await;
    assert!(is_bytes(&refused), "{refused:?}");
    let artifact = NewRevision { quotas: bytes(300), ..new("g") };
    assert!(publish(&test.store, artifact, &[8; 100]).await.is_err(), "files count there, too");

    let files = |files| Quotas { files, ..Quotas::default() };
    let refused = put(&test.store, &ours(), &["one", "three"], files(4), 1).await;
    assert!(matches!(refused, Err(Error::Quota { quota: Quota::Files, max: 4 })), "{refused:?}");
    put(&test.store, &ours(), &["one", "three"], files(5), 1).await.unwrap();
}

/// Case Y08.
#[tokio::test]
async fn a_tree_without_a_revision_is_spared_for_a_while_and_then_collected() {
    let test = TestStore::new().await;
    let kept = put_ours(&test.store, &["shared", "kept"], 1_000).await;
    put_ours(&test.store, &["shared", "gone"], 1_000).await;
    publish(&test.store, with_tree("f", kept.digest), b"x").await.unwrap();

    assert_eq!(test.store.collect_trees(1_000, 2_000).await.unwrap(), (0, 0), "too young");
    assert_eq!(test.store.collect_trees(1_001, 2_000).await.unwrap(), (1, 2), "a file, a list");
    assert_eq!(read(&test.store, "gone").await, None);
    assert_eq!(read(&test.store, "shared").await.unwrap(), b"shared");

    // A settings change moves the function to no tree; the old revision still names it.
    test.store.change_settings(settings("f", 1, 1)).await.unwrap();
    assert_eq!(test.store.collect_trees(END_OF_TIME, 3_000).await.unwrap(), (0, 0));
    test.store.delete_function(&ours(), "f").await.unwrap();
    // It was in use at 3,000.
    assert_eq!(test.store.collect_trees(3_000, 4_000).await.unwrap(), (0, 0));
    assert_eq!(test.store.collect_trees(3_001, 4_000).await.unwrap(), (1, 3));
    assert!(test.files("artifacts").iter().all(|file| file.extension().unwrap() == "wasm"));
    assert_eq!(test.store.tree(&ours(), &kept.digest).await.unwrap(), None);
}

#[tokio::test]
async fn many_files_and_files_without_a_row_are_collected() {
    let test = TestStore::new().await;
    for n in 0..20 {
        let contents: Vec<String> = (0..60).map(|file| format!("{n}/{file}")).collect();
        let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
        put_ours(&test.store, &contents, 1).await;
    }
    let orphan = test.store.blob_path(&Digest::of(b"orphan"));
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::write(&orphan, b"orphan").unwrap();
    assert_eq!(test.store.collect_trees(2, 2).await.unwrap(), (20, 20 * 61));
    assert_eq!(test.files("artifacts"), [orphan]);
    assert_eq!(test.store.collect_trees(END_OF_TIME, 2).await.unwrap(), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_collection_never_takes_a_tree_that_is_being_stored() {
    let test = TestStore::new().await;
    let collected = Arc::new(AtomicU64::new(0));
    let uploaders: Vec<_> = (0..2)
        .map(|n| {
            let (store, collected) = (test.store.clone(), Arc::clone(&collected));
            tokio::spawn(async move {
                let (name, own) = (format!("f{n}"), format!("own {n}"));
                // Enough rounds for the collector to meet every step.
                while collected.load(Ordering::Relaxed) < 60 {
                    let tree = put_ours(&store, &["shared", &own], 1).await;
                    match publish(&store, with_tree(&name, tree.digest), b"x").await {
                        Ok(_) => {}
                        // The collector came between the upload and the deploy.
                        Err(Error::NoSuchTree) => continue,
                        Err(error) => panic!("{error}"),
                    }
                    assert_eq!(read(&store, "shared").await.unwrap(), b"shared");
                    assert_eq!(read(&store, &own).await.unwrap(), own.as_bytes());
                    store.delete_function(&ours(), &name).await.unwrap();
                }
            })
        })
        .collect();
    while !uploaders.iter().all(JoinHandle::is_finished) {
        let (trees, _) = test.store.collect_trees(END_OF_TIME, 1).await.unwrap();
        collected.fetch_add(trees, Ordering::Relaxed);
    }
    for uploader in uploaders {
        uploader.await.unwrap();
    }
}
