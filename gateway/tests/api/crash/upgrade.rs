//! An upgrade to another build on the same data, and the downgrade.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use http::Method;
use serde_json::json;

use crate::{
    client::eventually,
    guests::{distinct, guest},
    test_gateway::{MAYFLY, TestGateway},
};

/// The string in the binary that names the build of native code.
const BUILD: &str = concat!("native code of mayfly ", env!("CARGO_PKG_VERSION"));

/// A copy of this binary that reports another version: the two do not use each other's native code.
fn another_build(dir: &Path) -> PathBuf {
    let mut program = fs::read(MAYFLY).unwrap();
    let at: Vec<usize> = memchr::memmem::find_iter(&program, BUILD).collect();
    assert!(!at.is_empty(), "the program does not say which build it is");
    for at in at {
        program[at + BUILD.len() - 1] = b'~';
    }
    let path = dir.join("mayfly");
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

async fn all_answer(gateway: &TestGateway, functions: u32) {
    for number in 0..functions {
        let called = gateway.get(&format!("/f/f-{number}/")).await;
        assert_eq!(called.plain(), (200, "hello from c\n"), "f-{number}");
    }
}

async fn compiled(gateway: &TestGateway, times: f64) {
    gateway.metric_becomes("mayfly_compilations_total", times).await;
    gateway.metric_becomes("mayfly_native_code_missing", 0.0).await;
    let engines = gateway.data_dir().join("code/engines");
    let complete =
        async || fs::read_to_string(&engines).unwrap().contains(r#""complete":true"#).then_some(());
    eventually("the note says that nothing is missing", complete).await;
}

/// Case C07.
#[tokio::test]
async fn after_an_upgrade_native_code_is_compiled_in_the_background_and_a_downgrade_reuses_the_old()
{
    const OLD: u32 = 6;
    let wasm = guest("c-hello-cgi");
    let dir = tempfile::tempdir().unwrap();
    let other = another_build(dir.path());
    let mut gateway = TestGateway::with(&["compile.jobs=1"]).await;
    for number in 0..OLD {
        let put = gateway.put(&format!("f-{number}"), distinct(&wasm, number));
        assert_eq!(put.send().await.status(), 201);
    }
    gateway.terminate();
    assert!(gateway.exit().await.success());

    // Calls and deploys are served during the recompilation.
    gateway.start_build(&other).await;
    all_answer(&gateway, OLD).await;
    let put = gateway.put(&format!("f-{OLD}"), distinct(&wasm, OLD));
    assert_eq!(put.send().await.status(), 201);
    compiled(&gateway, f64::from(OLD + 1)).await;
    gateway.restart().await;
    all_answer(&gateway, OLD + 1).await;
    assert_eq!(
        gateway.metric("mayfly_compilations_total").await,
        0.0,
        "all native code must be stored"
    );
    gateway.terminate();
    assert!(gateway.exit().await.success());

    // Only the function that was deployed in between is missing. It is compiled without a call.
    gateway.start_build(Path::new(MAYFLY)).await;
    compiled(&gateway, 1.0).await;
    all_answer(&gateway, OLD + 1).await;
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 1.0);
    let cold = gateway.metric_with("mayfly_requests_total", &[("start", "cold")]).await;
    assert_eq!(cold, f64::from(OLD + 1), "no call may wait for the compiler");
}

/// Case C07.
#[tokio::test]
async fn revisions_of_channels_are_compiled_in_the_background_too() {
    let wasm = guest("c-hello-cgi");
    let dir = tempfile::tempdir().unwrap();
    let other = another_build(dir.path());
    let mut gateway = TestGateway::start().await;
    let channel = "/v1/functions/greet/channels/";
    for revision in 1..=4 {
        let put = gateway.put("greet", distinct(&wasm, revision));
        assert_eq!(put.send().await.status(), 201);
    }
    // Revision 4 is active, 1 has a channel, 2 a share of its requests, and 3 is reached by nothing.
    let share = json!([{"revision": 2, "percent": 50}]);
    let old = json!({"revision": 1, "weights": share});
    let put = gateway.control(Method::PUT, &format!("{channel}old"));
    assert_eq!(put.json(&old).send().await.status(), 200);
    gateway.terminate();
    assert!(gateway.exit().await.success());

    gateway.start_build(&other).await;
    compiled(&gateway, 3.0).await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/f/greet@old/").await.plain(), (200, "hello from c\n"));
    }
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 3.0);
}

/// Case C07.
#[tokio::test]
async fn missing_native_code_can_be_left_to_the_first_call() {
    let dir = tempfile::tempdir().unwrap();
    let other = another_build(dir.path());
    let mut gateway = TestGateway::with(&["compile.renew=false"]).await;
    gateway.deploy("c-hello").await;
    gateway.terminate();
    assert!(gateway.exit().await.success());
    gateway.start_build(&other).await;
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 0.0);
    let first = gateway.get("/f/c-hello/").await;
    assert_eq!(first.plain(), (200, "hello from c\n"));
    let frozen = gateway.metric_with("mayfly_requests_total", &[("start", "frozen")]).await;
    assert_eq!(frozen, 1.0);
}

/// Case C07.
/// A missing artifact does not stop the compilation of the others, and is tried again after a
/// restart.
#[tokio::test]
async fn a_function_that_cannot_be_compiled_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let other = another_build(dir.path());
    let mut gateway = TestGateway::start().await;
    gateway.expect_errors();
    gateway.deploy("c-hello").await;
    gateway.files("artifacts").iter().for_each(|file| fs::remove_file(file).unwrap());
    gateway.deploy("hello-cgi").await;
    for _ in 0..2 {
        gateway.terminate();
        assert!(gateway.exit().await.success());
        gateway.start_build(&other).await;
        gateway.metric_becomes("mayfly_native_code_missing", 1.0).await;
        assert_eq!(gateway.get("/f/hello-cgi/").await.plain(), (200, "hello from rust\n"));
        assert_eq!(gateway.get("/f/c-hello/").await.problem(), (500, "artifact-damaged"));
    }
    let gone = gateway.control(Method::DELETE, "/v1/functions/c-hello").send().await;
    assert_eq!(gone.status(), 204);
    gateway.restart().await;
    gateway.metric_becomes("mayfly_native_code_missing", 0.0).await;
}
