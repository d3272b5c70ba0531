//! Starting, stopping and restarting.

use std::{fs, os::unix::fs::PermissionsExt as _};

use http::Method;

use crate::{
    client::eventually,
    terminal::in_a_terminal,
    test_gateway::{MAYFLY, TestGateway, mayfly, run},
};

#[tokio::test]
async fn the_first_start_writes_a_token_that_only_its_owner_can_read() {
    let mut gateway = TestGateway::start().await;
    let file = gateway.data_dir().join("admin.token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = gateway.token();
    let file = format!("admin token in        {}\n", file.display());
    assert!(gateway.stdout().contains(&file), "{}", gateway.stdout());
    assert_eq!(gateway.api("/v1/tokens").await.status(), 200);
    assert!(!gateway.log().contains(&token), "a token must not be in the log");

    gateway.restart().await;
    assert_eq!(gateway.token(), token);
    assert_eq!(gateway.api("/v1/tokens").await.status(), 200);
}

/// Case A11.
#[tokio::test]
async fn the_token_is_printed_once_and_to_a_terminal_only() {
    let gateway = TestGateway::start().await;
    assert!(!gateway.stdout().contains("mfy_"), "{}", gateway.stdout());

    let mut gateway = TestGateway::by(in_a_terminal(MAYFLY, ""), &[]).await;
    let shown = format!("admin token           {}   (shown this once)", gateway.token());
    eventually("the token is printed", async || gateway.stdout().contains(&shown).then_some(()))
        .await;
    gateway.kill();
}

#[tokio::test]
async fn probes_need_no_token_and_metrics_only_if_the_operator_says_so() {
    let mut gateway = TestGateway::start().await;
    let asked = async |gateway: &TestGateway, target: &str| {
        gateway.anonymous(Method::GET, target).send().await
    };
    assert_eq!(asked(&gateway, "/healthz").await.plain(), (200, "ok\n"));
    assert_eq!(asked(&gateway, "/readyz").await.plain(), (200, "ready\n"));
    for target in ["/metrics", "/openapi.json"] {
        assert_eq!(asked(&gateway, target).await.problem(), (401, "unauthorized"), "{target}");
        assert_eq!(gateway.api(target).await.status(), 200, "{target}");
    }

    gateway.terminate();
    assert!(gateway.exit().await.success());
    gateway.start_with(&["server.open_metrics=true"]).await;
    let get = |target: &'static str| asked(&gateway, target);
    let metrics = get("/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text().contains("mayfly_build_info{version="));
    assert_eq!(get("/openapi.json").await.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn the_planes_do_not_serve_each_others_paths() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    assert_eq!(gateway.get("/metrics").await.problem(), (404, "no-route"));
    assert_eq!(gateway.get("/v1/functions").await.problem(), (404, "no-route"));
    assert_eq!(gateway.api("/f/c-hello/").await.problem(), (404, "resource-not-found"));
}

/// Case D01.
#[tokio::test]
async fn a_request_in_flight_survives_sigterm_and_the_exit_code_is_zero() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-sleep").await;
    let slow = tokio::spawn(gateway.call(Method::GET, "/f/t-sleep/?ms=2000").send());
    gateway.metric_becomes("mayfly_live_instances", 1.0).await;

    gateway.terminate();
    assert_eq!(slow.await.unwrap().plain(), (200, "slept\n"));
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(gateway.call(Method::GET, "/f/t-sleep/").try_send().await.is_err());
}

/// Case D01.
#[tokio::test]
async fn an_idle_connection_does_not_delay_the_shutdown() {
    let mut gateway = TestGateway::with(&["server.drain_ms=3600000"]).await;
    gateway.deploy("c-hello").await;
    let mut kept = crate::client::Http1::open(gateway.data()).await;
    assert_eq!(kept.get("/f/c-hello/").await.status(), 200);
    let silent = tokio::net::TcpStream::connect(gateway.data()).await.unwrap();

    gateway.terminate();
    assert_eq!(gateway.exit().await.code(), Some(0));
    drop(silent);
}

/// Case D05.
#[tokio::test]
async fn the_drain_ends_at_its_limit() {
    let mut gateway = TestGateway::with(&["server.drain_ms=200"]).await;
    gateway.deploy("sse").await;
    let mut stream = gateway.call(Method::GET, "/f/sse/?n=2&ms=250000").open().await;
    stream.read(1).await;

    gateway.terminate();
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(stream.try_rest().await.is_err(), "an aborted response must be an error to the client");
}

/// Case D05.
#[tokio::test]
async fn a_second_signal_ends_the_drain() {
    let mut gateway = TestGateway::with(&["server.drain_ms=3600000"]).await;
    gateway.deploy("sse").await;
    let mut stream = gateway.call(Method::GET, "/f/sse/?n=2&ms=250000").open().await;
    stream.read(1).await;

    gateway.terminate();
    let refused = async || gateway.call(Method::GET, "/f/sse/").try_send().await.err().map(drop);
    eventually("the listener is closed", refused).await;
    gateway.terminate();
    assert_eq!(gateway.exit().await.code(), Some(0));
}

/// Case D01.
#[tokio::test]
async fn before_the_drain_readiness_fails_and_calls_are_served() {
    let mut gateway = TestGateway::with(&["server.unready_ms=3600000"]).await;
    gateway.deploy("c-hello").await;

    gateway.terminate();
    eventually("readiness fails", async || {
        let answer = gateway.anonymous(Method::GET, "/readyz").send().await;
        (answer.plain() == (503, "not ready\n")).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    assert_eq!(gateway.anonymous(Method::GET, "/healthz").send().await.status(), 200);
    gateway.terminate();
    assert_eq!(gateway.exit().await.code(), Some(0), "a second signal ends the pause, too");
}

#[tokio::test]
async fn a_restart_serves_what_was_deployed_and_compiles_nothing() {
    let mut gateway = TestGateway::start().await;
    let before = gateway.deploy("c-hello").await;
    gateway.deploy("hello-p3").await;
    gateway.deploy("c-hello-cgi").await;

    gateway.restart().await;
    let cold = gateway.show("c-hello").await;
    assert_eq!(
        (&cold.json()["state"], &cold.json()["digest"]),
        (&"cold".into(), &before["digest"])
    );
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    assert_eq!(gateway.get("/f/hello-p3/").await.plain(), (200, "hello from rust\n"));
    assert_eq!(gateway.get("/f/c-hello-cgi/").await.plain(), (200, "hello from c\n"));
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 0.0);
    assert_eq!(gateway.show("c-hello").await.json()["state"], "loaded");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_directory_is_refused() {
    let gateway = TestGateway::start().await;
    let mut second = mayfly(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    second.arg("--data-dir").arg(gateway.data_dir());
    let output = run(second).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(gateway.data_dir().to_str().unwrap()), "{said}");
    assert_eq!(gateway.api("/v1/functions").await.status(), 200);
}

#[tokio::test]
async fn an_idle_function_is_evicted_and_loaded_again_when_it_is_called() {
    let gateway = TestGateway::start().await;
    let idle = serde_json::json!({"idle_ms": 200});
    gateway.deploy_with("c-hello", &idle).await;
    let becomes_cold = async || {
        let state = gateway.show("c-hello").await.json()["state"].clone();
        (state == "cold").then_some(())
    };
    eventually("the function is cold", becomes_cold).await;
    gateway.metric_becomes("mayfly_resident_functions", 0.0).await;
    gateway.metric_becomes("mayfly_resident_code_bytes", 0.0).await;

    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    let started = gateway.api("/metrics").await;
    let cold_start = r#"mayfly_requests_total{function="c-hello",outcome="ok",start="cold"} 1"#;
    assert!(started.text().contains(cold_start), "{}", started.text());
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 1.0);
    assert_eq!(gateway.metric("mayfly_resident_functions").await, 1.0);
}

/// Case C08.
#[tokio::test]
async fn a_missing_artifact_is_the_platforms_fault_and_affects_no_other_function() {
    let mut gateway = TestGateway::start().await;
    gateway.expect_errors();
    gateway.deploy("c-hello").await;
    for directory in ["artifacts", "code"] {
        let files = gateway.files(directory);
        files.iter().for_each(|file| fs::remove_file(file).unwrap());
    }
    gateway.deploy("hello-cgi").await;
    gateway.restart().await;
    let failed = gateway.get("/f/c-hello/").await;
    assert_eq!(failed.problem(), (500, "artifact-damaged"));
    assert_eq!(failed.json()["fault"], "platform");
    let artifact = gateway.api("/v1/functions/c-hello/artifact").await;
    assert_eq!(artifact.problem(), (500, "internal"));
    assert_eq!(gateway.get("/f/hello-cgi/").await.plain(), (200, "hello from rust\n"));
    assert!(gateway.log().contains(r#""level":"ERROR""#), "an operator must look at this");
}

/// Case A07.
#[tokio::test]
async fn a_control_plane_beyond_loopback_must_be_allowed_explicitly() {
    let shown = run(mayfly(&["config", "show"])).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(r#"admin_listen = "127.0.0.1:9090""#), "{shown}");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9090"] {
        let serve = ["serve", "--admin-listen", address, "--listen", "127.0.0.1:0"];
        let output = run(mayfly(&serve)).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("admin_listen") && said.contains("insecure_admin"), "{said}");
    }
}
