//! Reused connections, and functions that call functions.

use http::Method;
use serde_json::json;

use super::{GUESTS, Upstream, UpstreamConnection, ask};
use crate::{client::eventually, guests::guest, test_gateway::TestGateway};

#[tokio::test]
async fn a_functions_connections_are_reused_by_no_other_function() {
    let gateway =
        TestGateway::with(&["outbound.permit=127.0.0.1", "outbound.idle_ms=3600000"]).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({"outbound": [host]})).await;
        for _ in 0..3 {
            let answer = ask(&gateway, guest, &format!("to={host}&times=10")).await;
            assert!(answer.starts_with("10 x 203 "), "{answer}");
        }
    }
    // One connection for each function, over several invocations.
    assert_eq!(upstream.connections(), 2);
    assert_eq!(gateway.metric("mayfly_outbound_connections").await, 2.0);
    // A new revision opens a new connection, and the old revision's is closed.
    gateway.patch("t-outbound", &json!({"settings": {"cpu_ms": 900}})).await;
    ask(&gateway, "t-outbound", &format!("to={host}")).await;
    assert_eq!(upstream.connections(), 3);
    eventually("the old revision's connection is closed", async || {
        (upstream.open() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_timeout() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1", "outbound.idle_ms=50"]).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    gateway.deploy_with("t-outbound", &json!({"outbound": [host]})).await;
    ask(&gateway, "t-outbound", &format!("to={host}")).await;
    eventually("the connection is closed", async || (upstream.open() == 0).then_some(())).await;
    gateway.metric_becomes("mayfly_outbound_connections", 0.0).await;
}

#[tokio::test]
async fn the_idle_connections_of_a_node_are_limited() {
    let settings =
        ["outbound.permit=127.0.0.1", "outbound.idle_ms=3600000", "outbound.idle_connections=2"];
    let gateway = TestGateway::with(&settings).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    let names = ["a", "b", "c", "d"];
    for name in names {
        let put = gateway.put(name, guest("t-outbound"));
        let settings = json!({"outbound": [host]}).to_string();
        assert_eq!(put.header("mayfly-settings", &settings).send().await.status(), 201);
    }
    for name in names.repeat(2) {
        assert!(ask(&gateway, name, &format!("to={host}")).await.starts_with("1 x 203 "));
        // A connection beyond the limit is closed.
        let two = async || (upstream.open() <= 2).then_some(());
        eventually("at most two connections are idle", two).await;
    }
    // The first two functions reused their connections; the others opened a new one each time.
    assert_eq!((upstream.open(), upstream.connections()), (2, 2 + 2 * 2));
}

#[tokio::test]
async fn a_server_that_closes_between_two_requests_causes_no_error() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    // Promises to keep the connection, and closes it.
    let upstream = Upstream::serving(async |mut served: UpstreamConnection| {
        served.head().await;
        served.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    })
    .await;
    let host = upstream.host();
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({"outbound": [host]})).await;
        for _ in 0..5 {
            assert_eq!(ask(&gateway, guest, &format!("to={host}")).await, "1 x 200 2");
            let closed = async || (upstream.open() == 0).then_some(());
            eventually("the server has closed the connection", closed).await;
            gateway.metric_becomes("mayfly_outbound_connections", 0.0).await;
        }
    }
}

/// Case S08.
#[tokio::test]
async fn a_function_that_calls_itself_is_stopped() {
    let gateway = TestGateway::with(&["outbound.allow_data_plane=true"]).await;
    let data = gateway.data().to_string();
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({"outbound": [data]})).await;
        let answer = ask(&gateway, guest, &format!("to={data}&again={guest}")).await;
        // The first response of the chain: the next function responded.
        assert!(answer.starts_with("1 x 200 "), "{answer}");
        let labels = [("function", guest), ("outcome", "ok")];
        assert_eq!(gateway.metric_with("mayfly_requests_total", &labels).await, 8.0, "{guest}");
    }
    let loops = gateway.metric_with("mayfly_problems_total", &[("type", "loop-detected")]).await;
    assert_eq!(loops, 2.0);
}

/// Case S08.
#[tokio::test]
async fn hops_are_counted_for_incoming_and_outgoing_requests() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1", "server.hops=3"]).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    gateway.deploy_with("t-outbound", &json!({"outbound": [host]})).await;
    let call = async |cdn_loop: &str| {
        let call = gateway.call(Method::GET, &format!("/f/t-outbound/?to={host}"));
        call.header("cdn-loop", cdn_loop).send().await
    };
    assert_eq!(call("other, mayfly; a=b, mayfly").await.status(), 200);
    let head = upstream.heads().pop().unwrap();
    assert!(head.contains("\r\ncdn-loop: other, mayfly; a=b, mayfly, mayfly\r\n"), "{head}");
    assert_eq!(call("mayfly,Mayfly, mayfly").await.problem(), (508, "loop-detected"));
    // The next request on the same connections has a `cdn-loop` of its own.
    gateway.get(&format!("/f/t-outbound/?to={host}")).await;
    let head = upstream.heads().pop().unwrap();
    assert!(head.contains("\r\ncdn-loop: mayfly\r\n"), "{head}");
}
