//! The requests that leave the gateway, and their destinations.

use serde_json::json;

use super::{GUESTS, NameServer, Upstream, ask, fetch, outcomes};
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

/// What a request says about the length of its body, and the body as it is sent.
fn sent(head: &str) -> &str {
    let framing = ["content-length: 0", "transfer-encoding: chunked"];
    framing.into_iter().find(|framing| head.contains(framing)).unwrap_or("nothing")
}

#[tokio::test]
async fn a_body_is_sent_with_every_method_and_an_empty_one_needs_no_framing() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    // Answers with the body, after which a chunked one ends.
    let upstream = Upstream::serving(|mut served| async move {
        while let Some(head) = served.head().await {
            let body = match sent(&head) {
                "transfer-encoding: chunked" => served.chunks().await,
                _ => String::new(),
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            served.write(answer.as_bytes()).await;
        }
    })
    .await;
    let host = upstream.host();
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({ "outbound": [host] })).await;
        for (query, framing, answer) in [
            ("method=GET", "nothing", "200 0"),
            ("method=GET&body=", "nothing", "200 0"),
            ("method=GET&body=hello", "transfer-encoding: chunked", "200 5"),
            ("method=DELETE", "nothing", "200 0"),
            ("method=DELETE&body=", "nothing", "200 0"),
            ("method=DELETE&body=hello", "transfer-encoding: chunked", "200 5"),
            ("method=POST", "content-length: 0", "200 0"),
            ("method=POST&body=", "content-length: 0", "200 0"),
            ("method=POST&body=hello", "transfer-encoding: chunked", "200 5"),
        ] {
            let told = ask(&gateway, guest, &format!("to={host}&{query}")).await;
            assert_eq!(told, format!("1 x {answer}"), "{guest}: {query}");
            let head = upstream.heads().pop().unwrap();
            assert_eq!(sent(&head), framing, "{guest}: {query}: {head}");
        }
    }
}

#[tokio::test]
async fn trailers_of_a_server_reach_the_guest_whether_they_are_announced_or_not() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let upstream = Upstream::answering(|head| {
        let announced = if head.contains("/announced ") { "trailer: x-sum\r\n" } else { "" };
        format!(
            "HTTP/1.1 200 OK\r\n{announced}transfer-encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n"
        )
    })
    .await;
    let host = upstream.host();
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({ "outbound": [host] })).await;
        for path in ["/announced", "/silent"] {
            let told = ask(&gateway, guest, &format!("to={host}&path={path}")).await;
            assert_eq!(told, "1 x 200 5 x-sum: 7", "{guest}: {path}");
        }
    }
    // The end of the trailers is the end of the response: the connection serves the next request.
    assert_eq!(upstream.connections(), GUESTS.len() as u32);
}

#[tokio::test]
async fn another_protocol_that_nobody_asked_for_is_an_error_and_other_1xx_are_passed_over() {
    let gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let upstream = Upstream::answering(|head| match head.contains("/switch ") {
        true => {
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhello"
                .to_owned()
        }
        false => "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n\
                  HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            .to_owned(),
    })
    .await;
    let host = upstream.host();
    for guest in GUESTS {
        gateway.deploy_with(guest, &json!({ "outbound": [host] })).await;
        let told = ask(&gateway, guest, &format!("to={host}&path=/switch")).await;
        let switched = ["1 x HttpUpgradeFailed", "1 x HTTPUpgradeFailed"];
        assert!(switched.contains(&&*told), "{guest}: {told}");
        let told = ask(&gateway, guest, &format!("to={host}&path=/early")).await;
        assert_eq!(told, "1 x 200 2", "{guest}");
    }
    assert_eq!(outcomes(&gateway, "t-outbound", "protocol").await, 1.0);
}
