//! Data of every released schema, opened by this version.

use std::{fs, path::Path};

use sqlx::{
    ConnectOptions as _, Connection as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use store::{Digest, Settings, Store, StoreConfig};

use crate::support::{ACTOR, new, ours, publish};

/// The state after the first `count` migrations: a function with two revisions, its artifacts, and
/// a token.
async fn written_with(dir: &Path, count: usize) -> [Digest; 2] {
    let migrations = sqlx::migrate!("../migrations/sqlite");
    let mut versions: Vec<_> = migrations.iter().map(|migration| migration.version).collect();
    versions.sort_unstable();
    let options = SqliteConnectOptions::new().filename(dir.join("mayfly.db"));
    let options = options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    let mut db = options.connect().await.unwrap();
    migrations.run_to(versions[count - 1], &mut db).await.unwrap();
    let digests = [&b"first"[..], b"second"].map(|bytes| {
        let digest = Digest::of(bytes);
        let name = digest.to_string();
        let shard = dir.join("artifacts").join(&name[..2]);
        fs::create_dir_all(&shard).unwrap();
        fs::write(shard.join(name + ".wasm"), bytes).unwrap();
        digest
    });
    let hex = digests.map(|digest| digest.to_string());
    let fill = format!(
        r#"PRAGMA foreign_keys = ON;
           BEGIN;
           INSERT INTO artifacts VALUES (x'{0}', 5, 10), (x'{1}', 6, 20);
           INSERT INTO functions (tenant, name, description, active_revision, created_ms, updated_ms)
               VALUES ('default', 'f', 'from before', 2, 10, 20);
           INSERT INTO revisions (function_id, number, digest, kind, settings, created_ms) VALUES
               (1, 1, x'{0}', 'wasi-http-0.2', '{{}}', 10),
               (1, 2, x'{1}', 'wasi-preview1', '{{"cpu_ms":7,"environment":{{"A":"1"}}}}', 20);
           COMMIT;"#,
        hex[0], hex[1]
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(&mut db).await.unwrap();
    if count >= 2 {
        // As the versions before tenants had a column here wrote it, which still works with it.
        let token = format!(
            r#"INSERT INTO tokens (id, name, hash, scopes, created_ms, expires_ms, revoked_ms)
               VALUES ('t', 'ci', x'{}', '["read"]', 10, NULL, NULL)"#,
            "01".repeat(32)
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(token)).execute(&mut db).await.unwrap();
    }
    db.close().await.unwrap();
    digests
}

/// Case C12.
#[tokio::test]
async fn every_released_schema_is_migrated_with_its_data() {
    let released = sqlx::migrate!("../migrations/sqlite").iter().count();
    for count in 1..=released {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = written_with(dir.path(), count).await;

        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();

        let active = store.all_active().await.unwrap();
        assert_eq!(active.len(), 1, "after {count} migrations");
        let (function, revision) = (&active[0].function, &active[0].revision);
        assert_eq!((function.name.as_str(), function.description.as_str()), ("f", "from before"));
        assert_eq!((revision.number, revision.digest, revision.bytes), (2, second, 6));
        let environment = [("A".to_owned(), "1".to_owned())].into_iter().collect();
        let settings = Settings {
            limits: [("cpu_ms".to_owned(), 7)].into(),
            environment,
            ..Settings::default()
        };
        assert_eq!(revision.settings, settings);
        assert!(store.is_whole(&first).await.unwrap() && store.is_whole(&second).await.unwrap());
        assert_eq!(function.tenant, ours());
        assert_eq!(store.tokens(&ours()).await.unwrap().len(), usize::from(count >= 2));

        // The store works like any other.
        let old = store.activate(&ours(), "f", 1, ACTOR, 30).await.unwrap().unwrap();
        assert_eq!((old.revision.digest, old.revision.settings), (first, Settings::default()));
        let next = publish(&store, new("f"), b"third").await.unwrap();
        assert_eq!(next.revision.number, 3);
        assert_eq!(store.collect_garbage(i64::MAX).await.unwrap(), []);
        store.close().await;
        let again = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        assert_eq!(again.all_active().await.unwrap().len(), 1);
    }
}
