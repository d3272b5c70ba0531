//! A fresh store and common operations on it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};
use store::{
    Actor, NewRevision, NewSettings, Precondition, Published, Quotas, Release, Result, Settings,
    Store, StoreConfig, StoredUpload, Tenant,
};
use tempfile::TempDir;

/// Larger than every upload of the tests.
pub(crate) const MAX_BYTES: u64 = 10 << 20;

/// A store in a directory of its own, which is removed with it.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) dir: TempDir,
}

impl TestStore {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        Self { store, dir }
    }

    /// The same store, opened again as by a new process.
    pub(crate) async fn reopen(self) -> Self {
        let Self { store, dir } = self;
        store.close().await;
        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        Self { store, dir }
    }

    pub(crate) async fn receive(&self, bytes: &[u8]) -> StoredUpload {
        receive(&self.store, bytes).await
    }

    pub(crate) async fn publish(&self, function: &str, bytes: &[u8]) -> Published {
        publish(&self.store, new(function), bytes).await.unwrap()
    }

    /// A connection of another client to one of the databases.
    pub(crate) async fn other_client(&self, file: &str) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.dir.path().join(file));
        options.connect().await.unwrap()
    }

    /// The files in and below a directory of the store, sorted.
    pub(crate) fn files(&self, below: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        list(&self.dir.path().join(below), &mut files);
        files.sort();
        files
    }

    /// Waits until no upload is left: temporary files are removed in the background.
    pub(crate) async fn until_no_upload_is_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.files("tmp").is_empty() {
            assert!(Instant::now() < deadline, "left: {:?}", self.files("tmp"));
            tokio::task::yield_now().await;
        }
    }
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}

/// The tenant of all that a test does not give another one.
pub(crate) fn ours() -> Tenant {
    Tenant::default()
}

pub(crate) fn tenant(name: &str) -> Tenant {
    Tenant::try_from(name).unwrap()
}

/// Who makes every change of a test that is not about that.
pub(crate) const ACTOR: Actor<'static> = Actor { token: "t", origin: "127.0.0.1" };

pub(crate) fn new(function: &str) -> NewRevision<'_> {
    NewRevision {
        tenant: ours(),
        function,
        actor: ACTOR,
        release: Release::default(),
        kind: "component",
        settings: None,
        precondition: Precondition::Unconditional,
        request: None,
        quotas: Quotas::default(),
        now_ms: 1_000,
    }
}

pub(crate) fn timeout(timeout_ms: u64) -> Settings {
    Settings { limits: [("timeout_ms".to_owned(), timeout_ms)].into(), ..Settings::default() }
}

pub(crate) async fn receive(store: &Store, bytes: &[u8]) -> StoredUpload {
    let mut upload = store.begin_upload(MAX_BYTES).await.unwrap();
    upload.write(bytes).await.unwrap();
    upload.finish().await.unwrap()
}

/// The settings of a function's next revision.
pub(crate) fn settings(function: &str, expected_revision: u32, timeout_ms: u64) -> NewSettings<'_> {
    NewSettings {
        tenant: ours(),
        function,
        expected_revision,
        settings: timeout(timeout_ms),
        description: None,
        actor: ACTOR,
        quotas: Quotas::default(),
        now_ms: 2_000,
    }
}

pub(crate) async fn publish(
    store: &Store,
    new: NewRevision<'_>,
    bytes: &[u8],
) -> Result<Published> {
    store.publish(&receive(store, bytes).await, new).await
}
