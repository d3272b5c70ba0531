//! Artifacts whose bytes have changed on disk.

use std::fs;

use crate::support::TestStore;

/// Case C08.
#[tokio::test]
async fn a_damaged_artifact_is_detected_quarantined_and_restored() {
    let test = TestStore::new().await;
    let good = test.publish("g", b"others").await.revision.digest;
    let digest = test.publish("f", b"whole").await.revision.digest;
    let path = test.store.artifact_path(&digest);
    // Damage at any position, with and without a change of the length.
    for damage in [&b"Whole"[..], b"wholf", b"who", b"wholesome", b""] {
        assert!(test.store.is_whole(&digest).await.unwrap());
        assert!(!test.store.quarantine(&digest).await.unwrap(), "an undamaged artifact must stay");
        fs::write(&path, damage).unwrap();

        assert!(!test.store.is_whole(&digest).await.unwrap(), "{damage:?}");
        assert!(test.store.quarantine(&digest).await.unwrap(), "{damage:?}");
        assert!(!path.exists());
        assert!(!test.store.quarantine(&digest).await.unwrap(), "it is already in quarantine");
        let quarantined = test.dir.path().join("quarantine").join(path.file_name().unwrap());
        assert_eq!(fs::read(quarantined).unwrap(), damage);
        assert!(test.store.is_whole(&good).await.unwrap());

        test.publish("f", b"whole").await;
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }
}

/// Case C08.
#[tokio::test]
async fn the_same_bytes_restore_an_artifact_with_undetected_damage() {
    let test = TestStore::new().await;
    let digest = test.publish("f", b"whole").await.revision.digest;
    fs::write(test.store.artifact_path(&digest), b"Whole").unwrap();

    test.publish("f", b"whole").await;

    assert!(test.store.is_whole(&digest).await.unwrap());
}
