//! Truncated and changed binaries.

use futures_util::{StreamExt as _, stream};
use runtime_pool::ArtifactLimits;

use super::{Canary, repetitions};
use crate::{guests::guest, test_gateway::TestGateway};

/// Asserts that each upload gets the result that an inspection of its bytes predicts.
async fn match_inspection(gateway: &TestGateway, uploads: Vec<(String, Vec<u8>)>) {
    let uploads = uploads.into_iter().map(|(what, bytes)| {
        let fits = runtime_pool::inspect(&bytes, &ArtifactLimits::default()).is_ok();
        let put = gateway.put("damaged", bytes);
        async move { (what, fits, put.send().await) }
    });
    let answers: Vec<_> = stream::iter(uploads).buffer_unordered(8).collect().await;
    for (what, fits, answer) in answers {
        match answer.status() {
            422 => assert!(!answer.detail().is_empty(), "{what}: {answer:?}"),
            // A missing or changed custom section leaves the binary valid.
            200 | 201 => assert!(fits, "{what}: {answer:?}"),
            other => panic!("{what}: {other}: {answer:?}"),
        }
    }
}

/// Case U04.
#[tokio::test]
async fn a_truncated_or_changed_binary_is_refused_or_still_valid() {
    let gateway = TestGateway::with(&[
        "quotas.compiles_per_minute=100000",
        "quotas.changes_per_minute=100000",
    ])
    .await;
    gateway.deploy("c-hello").await;
    let canary = Canary::start(&gateway);
    let whole = guest("c-hello-cgi");
    let each = |count: u32| {
        let step = whole.len() / (count as usize).min(whole.len());
        (0..whole.len()).step_by(step.max(1))
    };
    let cuts =
        each(repetitions(100, u32::MAX)).map(|at| (format!("cut at {at}"), whole[..at].into()));
    match_inspection(&gateway, cuts.collect()).await;
    let flips = each(repetitions(100, u32::MAX)).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        (format!("flipped at {at}"), bytes)
    });
    match_inspection(&gateway, flips.collect()).await;
    canary.ends_unharmed().await;
    gateway.no_uploads_left().await;
}

/// Cases U01, U02, U03.
#[tokio::test]
async fn an_upload_that_is_not_wasm_starts_no_compiler_and_native_code_is_never_run() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let mut uploads: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "empty"),
        (b"\x7fELF\x02\x01\x01".to_vec(), "an ELF file"),
        (b"\xff\xd8\xff\xe0".to_vec(), "a JPEG picture"),
        (b"<!doctype html><html></html>".to_vec(), "an HTML page"),
        (b"(module (func (export \"_start\")))".to_vec(), "text format"),
        (vec![0xa5; 1 << 20], "something unknown"),
    ];
    // The gateway's own native code, which would run if it were loaded.
    let code = gateway.files("code");
    let native = code.iter().find(|path| path.extension().is_some_and(|is| is == "cwasm"));
    uploads.push((std::fs::read(native.unwrap()).unwrap(), "a .cwasm file made by Wasmtime"));
    for (bytes, says) in uploads {
        let refused = gateway.put("other", bytes).send().await;
        assert_eq!(refused.problem(), (422, "invalid-wasm"), "{refused:?}");
        assert!(refused.detail().contains(says), "{says}: {refused:?}");
    }
    assert_eq!(
        gateway.metric("mayfly_compilations_total").await,
        1.0,
        "only c-hello may be compiled"
    );
    assert_eq!(gateway.files("artifacts").len(), 1);
    gateway.no_uploads_left().await;
}
