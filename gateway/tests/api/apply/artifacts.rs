//! Artifacts that are uploaded by themselves.

use std::path::{Path, PathBuf};

use http::Method;

use super::digest;
use crate::{
    crash::Strace,
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

/// Case E01.
#[tokio::test]
async fn an_artifact_is_stored_by_its_digest() {
    let mut gateway = TestGateway::start().await;
    let wasm = guest("c-hello");
    let (target, bytes) = (format!("/v1/artifacts/{}", digest(&wasm)), wasm.len());
    let head = async |gateway: &TestGateway, target: &str| {
        gateway.control(Method::HEAD, target).send().await.status()
    };
    assert_eq!(head(&gateway, &target).await, 404);
    let stored = gateway.put_artifact(wasm.clone()).await;
    assert_eq!(stored.status(), 201, "{stored:?}");
    assert_eq!(*stored.json(), serde_json::json!({"digest": digest(&wasm), "bytes": bytes}));
    assert_eq!(gateway.put_artifact(wasm.clone()).await.status(), 200);
    assert_eq!(head(&gateway, &target).await, 200);
    assert_eq!(head(&gateway, &target.replace("sha256:", "")).await, 200);
    gateway.kill();
    gateway.start_again().await;
    assert_eq!(head(&gateway, &target).await, 200);

    // It is neither inspected nor compiled.
    assert_eq!(gateway.put_artifact(b"no wasm".to_vec()).await.status(), 201);
    let compiled = gateway.files("code");
    let is_code = |file: &PathBuf| file.extension().is_some_and(|is| is == "cwasm");
    assert!(!compiled.iter().any(is_code), "{compiled:?}");
    let shown = gateway.api(&target).await;
    assert_eq!(*shown.json(), *stored.json());
    let unknown = gateway.api(&format!("/v1/artifacts/{}", digest(b"unknown"))).await;
    assert_eq!(unknown.problem(), (404, "artifact-not-found"));

    let other = gateway.control(Method::PUT, &target).body(guest("hello")).send().await;
    assert_eq!(other.problem(), (422, "digest-mismatch"));
    let wrong = gateway.control(Method::PUT, "/v1/artifacts/x").body(wasm.clone()).send().await;
    assert_eq!(wrong.problem(), (400, "bad-query"));
    let text = gateway.control(Method::PUT, &target).header("content-type", "text/plain");
    assert_eq!(text.body(wasm).send().await.problem(), (415, "unsupported-media-type"));
    gateway.no_uploads_left().await;
    assert_eq!(gateway.files("artifacts").len(), 2, "what is refused leaves nothing");
}

/// Case E01.
#[tokio::test]
async fn quotas_bound_artifacts_as_they_bound_uploads() {
    let wasm = guest("c-hello");
    let quota = format!("quotas.artifact_bytes={}", wasm.len() + 10);
    let most = format!("uploads.artifact_bytes={}", wasm.len());
    let gateway = TestGateway::with(&[&quota, &most, "quotas.changes_per_minute=16"]).await;
    let large = [&wasm[..], b"x"].concat();
    assert_eq!(gateway.put_artifact(large).await.problem(), (413, "artifact-too-large"));
    assert_eq!(gateway.put_artifact(wasm.clone()).await.status(), 201);
    assert_eq!(gateway.put_artifact(vec![1; 11]).await.problem(), (409, "storage-quota"));
    for _ in 0..16 {
        let stored = gateway.put_artifact(wasm.clone()).await;
        if stored.status() != 200 {
            assert_eq!(stored.problem(), (429, "change-quota"));
            return;
        }
    }
    panic!("changes are not bounded");
}

/// Case E03.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_leaves_all_of_an_artifact_or_nothing() {
    let wasm = distinct(&guest("c-hello"), 1);
    let shard = Path::new("artifacts").join(&digest(&wasm)["sha256:".len()..][..2]);
    let wal = Path::new("mayfly.db-wal");
    for (step, call, nth, path) in [
        ("the bytes are flushed", "fsync", "1", None),
        ("the artifact is named", "rename", "1", None),
        ("the shard is flushed", "fsync", "1", Some(&*shard)),
        ("a row is written", "pwrite64", "1", Some(wal)),
        ("more rows are written", "pwrite64", "3", Some(wal)),
        ("the rows are flushed", "fsync", "1", Some(wal)),
    ] {
        let mut gateway = TestGateway::start().await;
        let wasm = wasm.clone();
        let (trace, inject) =
            (format!("trace={call}"), format!("inject={call}:signal=KILL:when={nth}"));
        let path = path.map(|path| gateway.data_dir().join(path));
        let what = [&*trace, &*inject];
        let strace = Strace::attach(gateway.pid(), &what, path.as_deref()).await;
        let target = format!("/v1/artifacts/{}", digest(&wasm));
        let put = gateway.control(Method::PUT, &target).body(wasm.clone());
        let answer = put.try_send().await;
        assert!(answer.is_err(), "{step}: {answer:?}");
        assert!(!gateway.exit().await.success(), "{step}: it was not killed");
        drop(strace);
        gateway.start_again().await;
        assert!(gateway.files("tmp").is_empty(), "{step}");
        let head = gateway.control(Method::HEAD, &target).send().await;
        assert!(matches!(head.status(), 200 | 404), "{step}: {head:?}");
        let stored = gateway.put_artifact(wasm).await;
        assert_eq!(stored.status(), if head.status() == 200 { 200 } else { 201 }, "{step}");
    }
}
