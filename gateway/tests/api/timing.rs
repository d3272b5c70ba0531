//! The `server-timing` header of responses.

use std::fs;

use http::Method;
use serde_json::json;

use crate::{
    client::{FullResponse, eventually},
    test_gateway::TestGateway,
};

/// The tier and the phases in a response.
fn timing(answer: &FullResponse) -> (String, Vec<String>) {
    let header = answer.header("server-timing").unwrap();
    let mut parts = header.split(", ");
    let tier = parts.next().unwrap().strip_prefix("tier;desc=").unwrap().to_owned();
    let phases = parts.map(|part| {
        let (phase, took) = part.split_once(";dur=").unwrap();
        assert!(took.parse::<f64>().unwrap() >= 0.0, "{header}");
        phase.to_owned()
    });
    (tier, phases.collect())
}

#[tokio::test]
async fn each_response_names_its_tier_and_phases() {
    let mut gateway = TestGateway::with(&["compile.renew=false"]).await;
    gateway.deploy_with("c-hello", &json!({"idle_ms": 200})).await;
    let (tier, phases) = timing(&gateway.get("/f/c-hello/").await);
    assert_eq!((tier.as_str(), phases.join(" ").as_str()), ("loaded", "instantiate guest total"));

    gateway.metric_becomes("mayfly_resident_functions", 0.0).await;
    let (tier, phases) = timing(&gateway.get("/f/c-hello/").await);
    assert_eq!(tier, "cold");
    assert!(phases.join(" ").ends_with("load link instantiate guest total"), "{phases:?}");

    gateway.files("code").iter().for_each(|file| fs::remove_file(file).unwrap());
    gateway.restart().await;
    let (tier, phases) = timing(&gateway.get("/f/c-hello/").await);
    assert_eq!(tier, "frozen");
    assert!(phases.join(" ").ends_with("compile load link instantiate guest total"), "{phases:?}");

    let metrics = gateway.api("/metrics").await;
    for phase in phases {
        let count = format!(r#"mayfly_phase_seconds_count{{phase="{phase}",start="frozen"}} 1"#);
        assert!(metrics.text().contains(&count), "{}", metrics.text());
    }
}

#[tokio::test]
async fn a_call_that_waited_for_anothers_load_reports_it() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("hello", &json!({"idle_ms": 200})).await;
    // The two calls share a load only sometimes.
    let waited = async || {
        gateway.metric_becomes("mayfly_resident_functions", 0.0).await;
        let (one, other) = tokio::join!(gateway.get("/f/hello/"), gateway.get("/f/hello/"));
        let both = [timing(&one), timing(&other)];
        let cold = both.iter().all(|(tier, _)| tier == "cold");
        let queued = both.iter().any(|(_, phases)| phases[0] == "queue");
        (cold && queued).then_some(())
    };
    eventually("two calls share a load", waited).await;
}

#[tokio::test]
async fn a_functions_owner_decides_whether_responses_carry_the_timing() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("c-hello", &json!({"server_timing": false})).await;
    assert_eq!(gateway.get("/f/c-hello/").await.header("server-timing"), None);
    let changed = gateway.patch("c-hello", &json!({"settings": {"server_timing": null}})).await;
    assert_eq!(changed.status(), 200);
    assert!(gateway.get("/f/c-hello/").await.header("server-timing").is_some());

    let silent = TestGateway::with(&["server.timing=false"]).await;
    silent.deploy("c-hello").await;
    assert_eq!(silent.get("/f/c-hello/").await.header("server-timing"), None);
}

#[tokio::test]
async fn a_request_that_knows_the_secret_sees_the_timing_and_the_guest_never_sees_the_secret() {
    let gateway = TestGateway::with(&["server.timing=false", "server.timing_secret=abc"]).await;
    gateway.deploy("c-hello").await;
    gateway.deploy("echo").await;
    let ask = async |name: &str, secret: &str| {
        let call = gateway.call(Method::GET, &format!("/f/{name}/headers"));
        call.header("mayfly-server-timing", secret).header("x-other", "seen").send().await
    };
    assert!(ask("c-hello", "abc").await.header("server-timing").is_some());
    assert_eq!(ask("c-hello", "abd").await.header("server-timing"), None);
    assert_eq!(ask("c-hello", "").await.header("server-timing"), None);
    let seen = ask("echo", "abc").await;
    assert!(!format!("{seen:?}").contains("mayfly-server-timing"), "{seen:?}");

    let none = TestGateway::with(&["server.timing=false"]).await;
    none.deploy("c-hello").await;
    let call = none.call(Method::GET, "/f/c-hello/").header("mayfly-server-timing", "");
    assert_eq!(
        call.send().await.header("server-timing"),
        None,
        "an empty secret must not match an unset one"
    );
}
