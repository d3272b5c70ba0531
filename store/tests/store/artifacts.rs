//! Uploads, artifacts and garbage collection.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use store::{Digest, Error, Quota, Quotas, Store};
use tokio::{io::AsyncReadExt as _, task::JoinHandle};

use crate::support::{MAX_BYTES, TestStore, new, ours, publish, receive, tenant};

/// Later than every file and every row.
const END_OF_TIME: i64 = i64::MAX;

async fn read(store: &Store, digest: &Digest) -> Option<Vec<u8>> {
    let (mut file, bytes) = store.open_artifact(digest).await.unwrap()?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).await.unwrap();
    assert_eq!(content.len() as u64, bytes);
    Some(content)
}

#[tokio::test]
async fn an_upload_in_pieces_of_any_size_is_read_back_whole() {
    let test = TestStore::new().await;
    let content: Vec<u8> = (0..700_000_u32).map(|i| (i * 31 % 251) as u8).collect();
    for piece in [1_009, 262_144, 300_000, 700_000] {
        let mut upload = test.store.begin_upload(content.len() as u64).await.unwrap();
        for chunk in content.chunks(piece) {
            upload.write(chunk).await.unwrap();
        }
        assert_eq!(upload.bytes(), 700_000);
        let received = upload.finish().await.unwrap();

        assert_eq!((received.digest(), received.bytes()), (Digest::of(&content), 700_000));
        assert!(fs::read(received.path()).unwrap() == content);
        test.store.publish(&received, new("f")).await.unwrap();
        assert!(read(&test.store, &Digest::of(&content)).await.unwrap() == content);
    }
    assert_eq!(test.files("artifacts"), [test.store.artifact_path(&Digest::of(&content))]);
}

#[tokio::test]
async fn an_upload_over_its_limit_is_refused_and_leaves_nothing() {
    let test = TestStore::new().await;
    let mut upload = test.store.begin_upload(4).await.unwrap();

    upload.write(b"four").await.unwrap();
    upload.write(b"").await.unwrap();
    let refused = upload.write(b"!").await;

    assert!(matches!(refused, Err(Error::TooLarge { max_bytes: 4 })), "{refused:?}");
    assert_eq!(upload.bytes(), 4);
    drop(upload);
    test.until_no_upload_is_left().await;
}

#[tokio::test]
async fn dropped_uploads_and_unpublished_bytes_leave_nothing() {
    let test = TestStore::new().await;
    let mut upload = test.store.begin_upload(MAX_BYTES).await.unwrap();
    upload.write(&[7; 300_000]).await.unwrap();
    let received = test.receive(b"never published").await;
    assert_eq!(test.files("tmp").len(), 2);

    drop((upload, received));

    test.until_no_upload_is_left().await;
    assert!(test.files("artifacts").is_empty());
}

#[tokio::test]
async fn stored_files_are_readable_only_by_their_owner() {
    let test = TestStore::new().await;
    test.publish("f", b"x").await;

    for file in test.files("") {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has {mode:o}", file.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_publishes_of_the_same_bytes_are_one_file_and_fifty_revisions() {
    let test = TestStore::new().await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let store = test.store.clone();
            tokio::spawn(async move { publish(&store, new("f"), b"the same").await })
        })
        .collect();

    let mut numbers = Vec::new();
    for task in tasks {
        numbers.push(task.await.unwrap().unwrap().revision.number);
    }

    numbers.sort_unstable();
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
    assert_eq!(read(&test.store, &Digest::of(b"the same")).await.unwrap(), b"the same");
    test.until_no_upload_is_left().await;
    assert_eq!(test.files("artifacts").len(), 1);
}

#[tokio::test]
async fn garbage_collection_removes_old_artifacts_that_no_revision_needs() {
    let test = TestStore::new().await;
    test.publish("kept", b"kept").await;
    test.publish("gone", b"gone").await;
    test.publish("gone", b"kept").await;
    test.store.delete_function(&ours(), "gone").await.unwrap();

    assert_eq!(test.store.collect_garbage(1_000).await.unwrap().len(), 0, "published at 1,000");
    assert_eq!(test.store.collect_garbage(1_001).await.unwrap().len(), 1);
    assert_eq!(test.store.collect_garbage(END_OF_TIME).await.unwrap().len(), 0);

    assert_eq!(read(&test.store, &Digest::of(b"gone")).await, None);
    assert_eq!(read(&test.store, &Digest::of(b"kept")).await.unwrap(), b"kept");
}

#[tokio::test]
async fn many_artifacts_are_collected_in_batches() {
    let test = TestStore::new().await;
    for n in 0..130_u8 {
        test.publish("f", &[n]).await;
    }
    test.store.delete_function(&ours(), "f").await.unwrap();

    assert_eq!(test.store.collect_garbage(END_OF_TIME).await.unwrap().len(), 130);
    assert!(test.files("artifacts").is_empty());
}

#[tokio::test]
async fn a_file_without_a_row_is_harmless_and_is_collected_when_it_is_old() {
    let test = TestStore::new().await;
    let path = test.store.artifact_path(&Digest::of(b"orphan"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"orphan").unwrap();
    let unrelated = path.with_file_name("README");
    fs::write(&unrelated, b"not ours").unwrap();
    for file in [&path, &unrelated] {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(5_000);
        fs::File::open(file).unwrap().set_modified(at).unwrap();
    }

    assert_eq!(test.store.collect_garbage(5_000).await.unwrap().len(), 0);
    assert_eq!(test.store.collect_garbage(5_001).await.unwrap().len(), 1);

    assert_eq!(test.files("artifacts"), [unrelated]);
}

#[tokio::test]
async fn publishing_the_bytes_again_restores_a_file_of_the_wrong_length() {
    let test = TestStore::new().await;
    let first = test.publish("f", b"whole").await;
    let path = test.store.artifact_path(&first.revision.digest);
    fs::write(&path, b"wh").unwrap();

    test.publish("f", b"whole").await;

    assert_eq!(fs::read(&path).unwrap(), b"whole");
}

#[tokio::test]
async fn a_refused_publish_can_be_retried_with_the_same_bytes() {
    let test = TestStore::new().await;
    let received = test.receive(b"x").await;
    let refused =
        store::NewRevision { precondition: store::Precondition::ActiveRevision(3), ..new("f") };

    assert!(test.store.publish(&received, refused).await.is_err());
    test.store.publish(&received, new("f")).await.unwrap();
    test.store.publish(&received, new("g")).await.unwrap();

    assert_eq!(read(&test.store, &received.digest()).await.unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_collection_never_takes_an_artifact_that_is_being_published() {
    let test = TestStore::new().await;
    let collected = Arc::new(AtomicU64::new(0));
    let publishers: Vec<_> = (0..2)
        .map(|n| {
            let (store, collected) = (test.store.clone(), Arc::clone(&collected));
            tokio::spawn(async move {
                let name = format!("f{n}");
                // Enough rounds for the collector to meet every step of a publish.
                while collected.load(Ordering::Relaxed) < 60 {
                    let received = receive(&store, name.as_bytes()).await;
                    store.publish(&received, new(&name)).await.unwrap();
                    let content = read(&store, &received.digest()).await;
                    assert_eq!(content.as_deref(), Some(name.as_bytes()));
                    store.delete_function(&ours(), &name).await.unwrap();
                }
            })
        })
        .collect();

    while !publishers.iter().all(JoinHandle::is_finished) {
        let removed = test.store.collect_garbage(END_OF_TIME).await.unwrap().len();
        collected.fetch_add(removed as u64, Ordering::Relaxed);
    }

    for publisher in publishers {
        publisher.await.unwrap();
    }
}

/// Case E02.
#[tokio::test]
async fn an_artifact_without_a_function_is_its_tenants_alone_and_is_kept_for_a_while() {
    let test = TestStore::new().await;
    let (store, digest) = (&test.store, Digest::of(b"alone"));
    let put = async |now_ms| {
        let upload = test.receive(b"alone").await;
        store.put_artifact(&ours(), &upload, &Quotas::default(), now_ms).await.unwrap()
    };
    assert!(put(1_000).await);
    assert!(!put(1_500).await, "it is there already");
    assert_eq!(store.own_artifact(&ours(), &digest).await.unwrap(), Some(5));
    assert_eq!(store.own_artifact(&tenant("other"), &digest).await.unwrap(), None);
    let unknown = Digest::of(b"unknown");
    let claimed = store.claim_artifacts(&ours(), [digest, unknown], 2_000).await.unwrap();
    assert_eq!(claimed, [unknown]);
    assert_eq!(store.claim_artifacts(&tenant("other"), [digest], 9).await.unwrap(), [digest]);

    assert_eq!(store.collect_garbage(2_000).await.unwrap(), [] as [Digest; 0]);
    let test = test.reopen().await;
    let store = &test.store;
    assert_eq!(read(store, &digest).await.unwrap(), b"alone");
    assert_eq!(store.collect_garbage(2_001).await.unwrap(), [digest]);
    assert_eq!(store.own_artifact(&ours(), &digest).await.unwrap(), None);
    assert!(test.files("artifacts").is_empty());

    // One that a function of the tenant runs needs no claim.
    test.publish("f", b"alone").await;
    assert_eq!(store.own_artifact(&ours(), &digest).await.unwrap(), Some(5));
    assert_eq!(store.own_artifact(&tenant("other"), &digest).await.unwrap(), None);
}

/// Case E02.
#[tokio::test]
async fn the_quota_of_bytes_counts_artifacts_without_a_function_once() {
    let test = TestStore::new().await;
    let quotas = |artifact_bytes| Quotas { artifact_bytes, ..Quotas::default() };
    let put = async |bytes: &[u8], most| {
        let upload = test.receive(bytes).await;
        test.store.put_artifact(&ours(), &upload, &quotas(most), 1).await
    };
    assert!(put(b"four", 4).await.unwrap());
    assert!(!put(b"four", 0).await.unwrap(), "it takes no more space");
    let refused = put(b"x", 4).await;
    assert!(
        matches!(refused, Err(Error::Quota { quota: Quota::ArtifactBytes, max: 4 })),
        "{refused:?}"
    );
    test.until_no_upload_is_left().await;
    assert_eq!(test.files("artifacts").len(), 1, "what is refused takes no space");
}
