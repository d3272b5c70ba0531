//! Uploads: which are accepted, which are refused and why, and what they leave behind.

mod under_load;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    client::{FullResponse, eventually},
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn repr_digest(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64_STANDARD.encode(Sha256::digest(bytes)))
}

#[tokio::test]
async fn a_deploy_returns_the_function_which_answers_at_once() {
    let gateway = TestGateway::start().await;
    let wasm = guest("c-hello");

    let made = gateway.put("greet", wasm.clone()).send().await;
    assert_eq!(made.status(), 201, "{made:?}");
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, "hello from c\n"));
    let view = made.json();
    assert_eq!(view["name"], "greet");
    assert_eq!(view["revision"], 1);
    assert_eq!(view["digest"], format!("sha256:{}", sha256(&wasm)));
    assert_eq!(view["kind"], "wasi-http-0.2");
    assert_eq!(view["bytes"], wasm.len());
    assert_eq!(view["url"], format!("http://{}/f/greet/", gateway.data()));
    assert_eq!(view["state"], "loaded");

    let again = gateway.put("greet", wasm).send().await;
    assert_eq!(again.status(), 200, "{again:?}");
    assert_eq!(again.json(), view);
}

/// Case C08.
#[tokio::test]
async fn the_same_bytes_restore_a_lost_artifact() {
    let gateway = TestGateway::start().await;
    let wasm = guest("c-hello");
    assert_eq!(gateway.put("greet", wasm.clone()).send().await.status(), 201);
    let digest = sha256(&wasm);
    let file = gateway.data_dir().join(format!("artifacts/{}/{digest}.wasm", &digest[..2]));
    std::fs::remove_file(&file).unwrap();

    assert_eq!(gateway.put("greet", wasm).send().await.status(), 201);
    assert!(file.exists());
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, "hello from c\n"));
}

#[tokio::test]
async fn the_url_begins_with_the_configured_public_url() {
    let gateway = TestGateway::with(&["public_url=https://fn.example/base/"]).await;
    assert_eq!(gateway.deploy("c-hello").await["url"], "https://fn.example/base/f/c-hello/");
}

#[tokio::test]
async fn other_bytes_become_a_revision_that_answers_at_once() {
    let gateway = TestGateway::start().await;
    for (revision, name, says) in [
        (1, "c-hello", "hello from c\n"),
        (2, "hello-cgi", "hello from rust\n"),
        (3, "c-hello", "hello from c\n"),
    ] {
        let made = gateway.put("greet", guest(name)).send().await;
        assert_eq!((made.status(), &made.json()["revision"]), (201, &revision.into()));
        assert_eq!(gateway.get("/f/greet/").await.plain(), (200, says));
    }
}

/// Case U16.
#[tokio::test]
async fn a_call_in_flight_ends_on_the_revision_it_began_on() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-sleep").await;
    for change in [Method::PUT, Method::DELETE] {
        gateway.put("t-sleep", guest("t-sleep")).send().await;
        let slow = tokio::spawn(gateway.call(Method::GET, "/f/t-sleep/?ms=2000").send());
        gateway.metric_becomes("mayfly_live_instances", 1.0).await;
        let changed = gateway.control(change, "/v1/functions/t-sleep").body(guest("c-hello"));
        assert!(changed.send().await.status() < 300);
        assert_eq!(slow.await.unwrap().plain(), (200, "slept\n"));
    }
    assert_eq!(gateway.get("/f/t-sleep/").await.problem(), (404, "function-not-found"));
}

#[tokio::test]
async fn an_upload_can_carry_settings() {
    let gateway = TestGateway::start().await;
    let settings = json!({"environment": {"GREETING": "grüß"}, "memory_bytes": 33_554_432});
    let view = gateway.deploy_with("t-env", &settings).await;
    assert_eq!(view["settings"], settings);
    assert_eq!(view["limits"]["memory_bytes"], 33_554_432);
    assert_eq!(gateway.get("/f/t-env/").await.plain(), (200, "GREETING=grüß\n"));

    let refused = gateway.put("other", guest("t-env")).header("mayfly-settings", "{nonsense");
    assert_eq!(refused.send().await.problem(), (422, "bad-settings"));
    assert_eq!(gateway.show("other").await.status(), 404);
}

#[tokio::test]
async fn equal_bytes_with_other_settings_are_another_revision() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-env").await;
    let put = gateway.put("t-env", guest("t-env"));
    let made = put.header("mayfly-settings", r#"{"environment": {"A": "1"}}"#).send().await;
    assert_eq!((made.status(), &made.json()["revision"]), (201, &2.into()));
    assert_eq!(gateway.get("/f/t-env/").await.plain(), (200, "A=1\n"));
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 1.0);
}

/// Case U06.
#[tokio::test]
async fn a_digest_sent_with_an_upload_is_checked() {
    let gateway = TestGateway::start().await;
    let wasm = guest("c-hello");
    let put =
        |digest: &str| gateway.put("greet", wasm.clone()).header("repr-digest", digest).send();
    let other = put(&repr_digest(b"something else")).await;
    assert_eq!(other.problem(), (422, "digest-mismatch"));
    assert!(other.detail().contains(&sha256(&wasm)), "{other:?}");
    assert_eq!(put("sha-256=nonsense").await.problem(), (400, "bad-digest"));
    assert_eq!(gateway.show("greet").await.status(), 404);
    gateway.no_uploads_left().await;

    assert_eq!(put(&repr_digest(&wasm)).await.status(), 201);
}

/// Case U14.
#[tokio::test]
async fn an_upload_must_be_sent_as_wasm() {
    let gateway = TestGateway::start().await;
    let put = |name: &str, value: &str| {
        let put = gateway.control(Method::PUT, "/v1/functions/greet").body(guest("c-hello"));
        put.header(name, value).send()
    };
    for kind in ["text/html", "multipart/form-data; boundary=x", "application/wasm-not"] {
        let refused = put("content-type", kind).await;
        assert_eq!(refused.problem(), (415, "unsupported-media-type"), "{kind}");
    }
    for encoding in ["gzip", "br", "zstd", "identity, gzip"] {
        let refused = put("content-encoding", encoding).await;
        assert_eq!(refused.problem(), (415, "unsupported-content-encoding"), "{encoding}");
    }
    assert_eq!(gateway.show("greet").await.status(), 404);
    // curl sends this type by default.
    assert_eq!(put("content-type", "application/x-www-form-urlencoded").await.status(), 201);
}

/// Case U13.
#[tokio::test]
async fn only_dns_labels_are_names() {
    let gateway = TestGateway::start().await;
    let long = "x".repeat(64);
    for name in [
        "..%2fx",
        "%2e%2e%2fx",
        "A",
        &long,
        "a_b",
        "a.b",
        "-a",
        "a-",
        "1a",
        "a%20b",
        "%C3%A9",
        "%252e",
        "a%5cb",
    ] {
        let refused = gateway.put(name, guest("c-hello")).send().await;
        assert_eq!(refused.problem(), (400, "bad-name"), "{name}");
    }
    for name in ["%ff", "a%00"] {
        let refused = gateway.put(name, guest("c-hello")).send().await;
        assert_eq!(refused.problem(), (400, "bad-target"), "{name}");
    }
    for path in ["..", "%2e%2e", "../x", "", "a/b"] {
        let refused = gateway.put(path, guest("c-hello")).send().await;
        assert!([404, 405].contains(&refused.problem().0), "{path}: {refused:?}");
    }
    assert_eq!(gateway.api("/v1/functions").await.json()["functions"], json!([]));
    assert_eq!(gateway.files("artifacts").len(), 0);
    assert_eq!(gateway.put(&long[1..], guest("c-hello")).send().await.status(), 201);
}

/// Case U05.
#[tokio::test]
async fn an_upload_that_is_too_large_is_refused_before_it_has_arrived() {
    let gateway = TestGateway::with(&["uploads.artifact_bytes=8192"]).await;
    let refused = gateway.put("greet", vec![0; 8193]).send().await;
    assert_eq!(refused.problem(), (413, "artifact-too-large"));

    // Without a declared length the response comes before the upload has ended.
    let (pieces, put) = gateway.control(Method::PUT, "/v1/functions/greet").pieces();
    let refused = tokio::spawn(put.send());
    for _ in 0..9 {
        pieces.send(Bytes::from_static(&[0; 1024])).await.unwrap();
    }
    assert_eq!(refused.await.unwrap().problem(), (413, "artifact-too-large"));
    gateway.no_uploads_left().await;
    assert_eq!(gateway.show("greet").await.status(), 404);
    assert_eq!(gateway.put("greet", guest("c-hello")).send().await.status(), 201);
}

/// Cases U01, U02, U12.
#[tokio::test]
async fn an_upload_that_is_not_a_function_is_refused_with_the_reason_and_leaves_nothing() {
    let gateway = TestGateway::start().await;
    let whole = guest("hello");
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("elf", b"\x7fELF\x02\x01\x01".to_vec(), "invalid-wasm", "an ELF file"),
        ("text", b"(module)".to_vec(), "invalid-wasm", "text format"),
        ("nothing", Vec::new(), "invalid-wasm", "empty"),
        ("html", b"<!doctype html><html>".to_vec(), "invalid-wasm", "an HTML page"),
        ("cut", whole[..whole.len() / 2].to_vec(), "invalid-wasm", "not valid"),
        ("cut-early", whole[..6].to_vec(), "invalid-wasm", "cut short"),
        ("header-only", whole[..8].to_vec(), "no-entry-point", "exports nothing"),
        ("t-no-export", guest("t-no-export"), "no-entry-point", "`add`"),
        ("t-bad-import", guest("t-bad-import"), "unknown-imports", "acme:thing/widget@1.0.0"),
        ("t-start-trap", guest("t-start-trap"), "start-failed", "unreachable"),
    ];
    for (name, bytes, slug, says) in cases {
        let refused = gateway.put(name, bytes).send().await;
        assert_eq!(refused.problem(), (422, slug), "{name}: {refused:?}");
        assert_eq!(refused.json()["fault"], "caller", "{name}");
        assert!(refused.detail().contains(says), "{name}: {refused:?}");
        assert_eq!(gateway.show(name).await.status(), 404, "{name}");
        assert_eq!(gateway.get(&format!("/f/{name}/")).await.status(), 404, "{name}");
    }
    gateway.no_uploads_left().await;
    assert_eq!(gateway.files("artifacts").len(), 0);
    assert_eq!(gateway.api("/v1/functions").await.json()["functions"], json!([]));
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
}

#[tokio::test]
async fn a_refused_upload_leaves_the_active_revision_as_it_was() {
    let gateway = TestGateway::start().await;
    let before = gateway.deploy("c-hello").await;
    let refused = gateway.put("c-hello", guest("t-bad-import")).send().await;
    assert_eq!(refused.status(), 422);
    assert_eq!(gateway.show("c-hello").await.json(), &before);
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
}

#[tokio::test]
async fn an_interrupted_upload_leaves_nothing() {
    let gateway = TestGateway::start().await;
    let wasm = guest("hello");
    let (pieces, put) = gateway.control(Method::PUT, "/v1/functions/greet").pieces();
    let upload = tokio::spawn(put.try_send());
    pieces.send(wasm[..wasm.len() / 2].to_vec().into()).await.unwrap();
    eventually("the upload is in progress", async || {
        (gateway.files("tmp").len() == 1).then_some(())
    })
    .await;

    upload.abort();
    gateway.no_uploads_left().await;
    assert_eq!(gateway.show("greet").await.status(), 404);
    assert_eq!(gateway.put("greet", wasm).send().await.status(), 201);
}

/// Case U15.
#[tokio::test]
async fn concurrent_uploads_of_one_artifact_compile_it_once() {
    let gateway = TestGateway::start().await;
    let wasm = Bytes::from(guest("hello"));
    let uploads = (0..20).map(|n| gateway.put(&format!("same-{n}"), wasm.clone()).send());
    for answer in join_all(uploads).await {
        assert_eq!(answer.status(), 201, "{answer:?}");
    }
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 1.0);
    assert_eq!(gateway.files("artifacts").len(), 1);
    let calls = (0..20).map(|n| gateway.call(Method::GET, &format!("/f/same-{n}/")).send());
    assert!(
        join_all(calls).await.iter().all(|answer| answer.plain() == (200, "hello from rust\n"))
    );
    gateway.no_uploads_left().await;
}

/// Case U15.
#[tokio::test]
async fn concurrent_uploads_to_one_name_become_consecutive_revisions() {
    let gateway = TestGateway::start().await;
    let wasm = guest("c-hello-cgi");
    let uploads = (0..20).map(|n| gateway.put("greet", distinct(&wasm, n)).send());
    let mut revisions: Vec<u64> = join_all(uploads).await.iter().map(revision).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=20).collect::<Vec<_>>());
    assert_eq!(gateway.show("greet").await.json()["revision"], 20);
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, "hello from c\n"));
}

fn revision(answer: &FullResponse) -> u64 {
    assert_eq!(answer.status(), 201, "{answer:?}");
    answer.json()["revision"].as_u64().unwrap()
}
