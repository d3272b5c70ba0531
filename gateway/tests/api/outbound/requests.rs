//! The requests that leave the gateway, and their destinations.

use serde_json::json;

use super::{GUESTS, NameServer, Upstream, ask, fetch};
use crate::test_gateway::TestGateway;

/// Case S04.
#[tokio::test]
async fn redirects_are_left_to_the_guest_and_each_request_is_vetted() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let inside = Upstream::echo().await;
    let location = format!("http://127.0.0.2:{}/", inside.port());
    let told = location.clone();
    let redirecting = Upstream::answering(move |_| {
        format!("HTTP/1.1 302 Found\r\nlocation: {told}\r\ncontent-length: 0\r\n\r\n")
    })
    .await;
    let port = inside.port();
    let named = [redirecting.host(), format!("127.0.0.2:{port}"), format!("10.0.0.1:{port}")];
    gateway.deploy_with("fetch", &json!({ "outbound": named })).await;
    let answer = fetch(&gateway, &format!("http://{}/", redirecting.host())).await;
    assert_eq!(answer.plain(), (302, ""));
    let followed = fetch(&gateway, &location).await;
    assert_eq!(followed.plain(), (502, "DestinationIpProhibited\n"));
    assert_eq!((redirecting.connections(), inside.connections()), (1, 0));
}

/// Case S06.
#[tokio::test]
async fn a_guest_cannot_send_an_ambiguous_request() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({"outbound": [host, "evil.test"]})).await;
        for (query, expected) in [
            ("path=http://evil.test/", "no path"),
            ("path=evil.test/", "no path"),
            ("path=*", "no path"),
            ("path=/a%0d%0ax:%20y", "no path"),
            ("path=/a%20HTTP/1.1%0d%0a%0d%0aGET%20/b", "no path"),
            ("path=/a%20b", "no path"),
            ("header=host:evil.test", "no header host"),
            ("header=Host:evil.test", "no header Host"),
            ("header=x:a%0d%0ay:%20b", "no header x"),
            ("header=x:a%0ab", "no header x"),
            ("header=x%20y:a", "no header x y"),
            ("header=connection:x", "no header connection"),
            ("header=transfer-encoding:chunked", "no header transfer-encoding"),
            ("header=upgrade:h2c", "no header upgrade"),
            ("header=proxy-authorization:x", "no header proxy-authorization"),
            ("header=cdn-loop:x", "no header cdn-loop"),
            ("method=GET%20/x", "no method"),
            ("method=CONNECT", "HttpRequestMethodInvalid"),
            ("scheme=ftp", "HttpProtocolError"),
        ] {
            let answer = ask(&gateway, guest, &format!("to={host}&{query}")).await;
            assert_eq!(answer, format!("1 x {expected}"), "{guest}: {query}");
        }
        for to in [
            format!("evil.test%0d%0a{host}"),
            format!("{host}/x"),
            format!("{host}@evil.test"),
            format!("evil.test@{host}"),
        ] {
            let answer = ask(&gateway, guest, &format!("to={to}")).await;
            let refused = ["1 x no authority", "1 x HttpRequestUriInvalid"];
            assert!(refused.contains(&&*answer), "{guest}: {to}: {answer}");
        }
    }
    assert_eq!(upstream.connections(), 0);
    // A path that looks like another host stays a path.
    for guest in GUESTS {
        assert!(
            ask(&gateway, guest, &format!("to={host}&path=//evil.test/")).await.contains("203")
        );
    }
    for head in upstream.heads() {
        assert!(head.starts_with("get //evil.test/ http/1.1\r\n"), "{head}");
        assert_eq!(head.matches("\r\nhost: ").count(), 1, "{head}");
        assert!(head.contains(&format!("\r\nhost: {host}\r\n")), "{head}");
    }
    // A false length. With WASI 0.3 the error appears only while the body is sent.
    for guest in GUESTS {
        let answer = ask(&gateway, guest, &format!("to={host}&header=content-length:5")).await;
        assert_eq!(answer, "1 x HttpRequestBodySize", "{guest}");
    }
}

/// Case S07.
#[tokio::test]
async fn a_grant_covers_its_names_and_no_others() {
    let upstream = Upstream::echo().await;
    let names = NameServer::start(|_, _| vec!["127.0.0.1".parse().unwrap()]).await;
    let gateway = TestGateway::with(&[&names.setting(), "outbound.permit=127.0.0.1"]).await;
    let port = upstream.port();
    let granted = ["*.a.com", "b.com", "bücher.example"].map(|host| format!("{host}:{port}"));
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({ "outbound": granted })).await;
        for (host, called) in [
            ("x.a.com", true),
            ("X.A.COM", true),
            ("x.a.com.", true),
            ("y.x.a.com", true),
            ("a.com", false),
            ("a.com.", false),
            ("xa.com", false),
            ("x-a.com", false),
            ("x.a.com.evil", false),
            ("a.com.evil", false),
            ("x.a.co", false),
            ("b.com", true),
            ("B.com.", true),
            ("b-b.com", false),
            ("x.b.com", false),
            ("b.com.evil", false),
            ("xn--bcher-kva.example", true),
            ("xn--bchr-0ra.example", false),
        ] {
            let answer = ask(&gateway, guest, &format!("to={host}:{port}")).await;
            let expected = if called { "1 x 203 " } else { "1 x HttpRequestDenied" };
            assert!(answer.starts_with(expected), "{guest}: {host}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_grant_may_name_methods_and_a_scheme() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    let granted = [format!("GET|OPTIONS http://{host}")];
    gateway.deploy_with("t-outbound", &json!({ "outbound": granted })).await;
    for (query, called) in [
        ("method=GET", true),
        ("method=OPTIONS", true),
        ("method=POST", false),
        ("method=get", false),
        ("method=GET&scheme=https", false),
    ] {
        let answer = ask(&gateway, "t-outbound", &format!("to={host}&{query}")).await;
        let expected = if called { "1 x 203 " } else { "1 x HttpRequestDenied" };
        assert!(answer.starts_with(expected), "{query}: {answer}");
    }
}
