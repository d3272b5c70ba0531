//! Opening, closing and concurrent access.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use store::{Error, NewToken, Store, StoreConfig};

use crate::support::{TestStore, new, ours, publish};

fn token() -> NewToken {
    NewToken {
        tenant: ours(),
        id: "t".to_owned(),
        name: "of a test".to_owned(),
        hash: [1; 32],
        scopes: vec![],
        created_ms: 0,
        expires_ms: None,
    }
}

#[tokio::test]
async fn a_missing_directory_is_created_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("a/b");

    Store::open(&StoreConfig { readers: 0, ..StoreConfig::new(&below) })
        .await
        .unwrap()
        .tokens(&ours())
        .await
        .unwrap();

    assert_eq!(fs::metadata(&below).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_directory_has_one_store_at_a_time() {
    let test = TestStore::new().await;
    test.publish("f", b"x").await;
    let config = StoreConfig::new(test.dir.path());

    let second = Store::open(&config).await;

    let Err(Error::Locked { path }) = second else { panic!("{second:?}") };
    assert_eq!(path, test.dir.path().canonicalize().unwrap().join("lock"));
    assert!(test.store.function(&ours(), "f").await.unwrap().is_some());
    test.store.close().await;
    assert!(Store::open(&config).await.is_ok());
}

#[tokio::test]
async fn a_closed_store_leaves_no_write_ahead_log_and_refuses_calls() {
    let test = TestStore::new().await;
    test.publish("f", b"x").await;

    test.store.close().await;

    assert!(test.files("").iter().all(|file| !file.to_str().unwrap().ends_with("-wal")));
    let closed = test.store.function(&ours(), "f").await;
    assert!(matches!(closed, Err(Error::Database { .. })), "{closed:?}");
}

/// Case C12.
#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    for file in ["mayfly.db", "logs.db", "queue.db"] {
        let test = TestStore::new().await;
        let mut db = test.other_client(file).await;
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (29991231235959, 'of the future', TRUE, x'00', 0)",
        )
        .execute(&mut db)
        .await
        .unwrap();
        test.store.close().await;

        let refused = Store::open(&StoreConfig::new(test.dir.path())).await.unwrap_err();

        let Error::NewerSchema { found, supported } = refused else { panic!("{refused:?}") };
        assert_eq!(found, 29_991_231_235_959);
        assert!((20_260_000_000_000..found).contains(&supported));
        assert!(refused.to_string().contains("29991231235959"), "{refused}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mayfly.db"), [b'x'; 8_192]).unwrap();

    let refused = Store::open(&StoreConfig::new(dir.path())).await;

    assert!(matches!(refused, Err(Error::Database { .. })), "{refused:?}");
}

/// Case C04.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_lock_held_elsewhere_is_reported_as_busy_within_six_seconds_and_reads_continue() {
    let test = TestStore::new().await;
    test.publish("f", b"x").await;
    let mut other = test.other_client("mayfly.db").await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();

    let begun = Instant::now();
    // The second call queues behind the first, and must not wait twice as long.
    let (first, second) =
        tokio::join!(publish(&test.store, new("f"), b"y"), test.store.add_token(token()));
    let took = begun.elapsed();

    assert!(matches!(first, Err(Error::Busy)), "{first:?}");
    assert!(matches!(second, Err(Error::Busy)), "{second:?}");
    assert!((Duration::from_secs(4)..Duration::from_secs(6)).contains(&took), "{took:?}");
    assert!(test.store.function(&ours(), "f").await.unwrap().is_some());
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    test.publish("f", b"y").await;
}
