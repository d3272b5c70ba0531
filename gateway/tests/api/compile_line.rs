//! Who waits for the compiler, and for how long.

use std::{fs, time::Duration};

use http::Method;
use serde_json::json;
use tokio::time;

use crate::{
    client::eventually,
    crash::workers,
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

/// Restarts the gateway without any native code, as it is after an upgrade.
async fn without_native_code(gateway: &mut TestGateway) {
    gateway.terminate();
    assert!(gateway.exit().await.success());
    fs::remove_dir_all(gateway.data_dir().join("code")).unwrap();
    gateway.start_again().await;
}

#[tokio::test]
async fn a_call_that_needs_the_compiler_goes_before_uploads_that_wait() {
    const UPLOADS: u32 = 3;
    let mut gateway = TestGateway::with(&["compile.jobs=1", "compile.renew=false"]).await;
    gateway.deploy("hello-cgi").await;
    without_native_code(&mut gateway).await;
    let wasm = guest("go-hello");
    let uploads: Vec<_> = (0..UPLOADS)
        .map(|number| {
            let put = gateway.put(&format!("upload-{number}"), distinct(&wasm, number));
            tokio::spawn(put.send())
        })
        .collect();
    let pid = gateway.pid();
    eventually("an upload is being compiled", async || (!workers(pid).is_empty()).then_some(()))
        .await;
    // The others arrive, and wait.
    time::sleep(Duration::from_millis(300)).await;
    assert_eq!(gateway.get("/f/hello-cgi/").await.status(), 200);
    let finished = uploads.iter().filter(|upload| upload.is_finished()).count();
    assert!(finished < 2, "{finished} uploads were compiled before the call");
    for upload in uploads {
        assert_eq!(upload.await.unwrap().status(), 201);
    }
}

#[tokio::test]
async fn a_call_waits_for_the_compiler_no_longer_than_its_timeout_and_the_next_finds_the_code() {
    let mut gateway = TestGateway::with(&["compile.renew=false"]).await;
    gateway.deploy_with("go-hello", &json!({"timeout_ms": 200})).await;
    without_native_code(&mut gateway).await;
    let refused = gateway.call(Method::GET, "/f/go-hello/").send().await;
    assert_eq!(refused.problem(), (503, "load-timeout"));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(refused.json()["hint"].as_str().unwrap().contains("timeout_ms"), "{refused:?}");
    eventually("the function answers", async || {
        (gateway.get("/f/go-hello/").await.status() == 200).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 1.0);
    let labels = [("outcome", "load-timeout")];
    assert!(gateway.metric_with("mayfly_requests_total", &labels).await >= 1.0);
}
