//! Functions that are CGI programs: the mapping of requests and responses.

use http::Method;
use serde_json::json;

use crate::test_gateway::TestGateway;

async fn response_to(gateway: &TestGateway, raw: &str) -> crate::client::FullResponse {
    let escaped: String = raw.bytes().map(|byte| format!("%{byte:02x}")).collect();
    gateway.get(&format!("/f/t-status/?raw={escaped}")).await
}

#[tokio::test]
async fn the_status_line_and_the_location_decide_the_status() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-status").await;
    for (query, status, location) in [
        ("", 200, None),
        ("status=404", 404, None),
        ("status=418%20I'm%20a%20teapot", 418, None),
        ("status=204", 204, None),
        ("location=/elsewhere", 302, Some("/elsewhere")),
        ("location=https://example.com/", 302, Some("https://example.com/")),
        ("status=301&location=/x", 301, Some("/x")),
        ("status=201&location=/x", 201, Some("/x")),
    ] {
        let answer = gateway.get(&format!("/f/t-status/?{query}")).await;
        assert_eq!(answer.status(), status, "{query}");
        assert_eq!(answer.header("location"), location, "{query}");
        assert_eq!(answer.header("status"), None, "{query}");
        assert_eq!(answer.header("mayfly-outcome"), Some("function"), "{query}");
    }
}

#[tokio::test]
async fn every_header_line_is_passed_on_and_everything_after_the_empty_line_is_the_body() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-status").await;
    for (raw, body) in [
        ("Content-Type: text/x\nX-One: 1\n\nbody", "body"),
        ("Content-Type: text/x\r\nX-One: 1\r\n\r\nbody\r\n\r\n", "body\r\n\r\n"),
        ("x-one:1\ncontent-type:text/x\n\n\n", "\n"),
        ("Content-Type: text/x\nX-One: 1\n\n", ""),
    ] {
        let answer = response_to(&gateway, raw).await;
        assert_eq!(answer.plain(), (200, body), "{raw:?}");
        assert_eq!(answer.header("content-type"), Some("text/x"), "{raw:?}");
        assert_eq!(answer.header("x-one"), Some("1"), "{raw:?}");
    }
    let twice =
        response_to(&gateway, "Content-Type: a/b\nSet-Cookie: a=1\nSet-Cookie: b=2\n\n").await;
    let cookies: Vec<_> = twice.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
}

#[tokio::test]
async fn an_invalid_cgi_response_is_a_bad_gateway_and_the_log_has_the_reason() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-status").await;
    for (raw, says) in [
        ("", "nothing"),
        ("hello\n", "empty line"),
        ("hello\n\n", "no colon"),
        ("Content-Type: text/plain\n", "empty line"),
        ("X-One: 1\n\nbody", "none of the headers"),
        ("Status: abc\n\n", "not a status"),
        ("Status: 100\n\n", "not a status"),
        ("Content-Type: a/b\nTransfer-Encoding: chunked\n\n0\r\n\r\n", "belongs to the gateway"),
        ("Content-Type: a/b\nConnection: close\n\n", "belongs to the gateway"),
        ("Content Type: a/b\n\n", "not a header name"),
    ] {
        let failed = response_to(&gateway, raw).await;
        assert_eq!(failed.problem(), (502, "no-response"), "{raw:?}");
        let id = failed.header("mayfly-request-id").unwrap();
        let target = format!("/v1/functions/t-status/logs?invocation={id}");
        crate::client::eventually("the log has the reason", async || {
            gateway.api(&target).await.text().contains(says).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_request_is_in_the_environment() {
    let gateway = TestGateway::start().await;
    let settings = json!({"environment": {"OWN": "mine", "HTTP_X_SECRET": "owner"}});
    gateway.deploy_with("t-cgi-env", &settings).await;
    let answer = gateway
        .call(Method::POST, "/f/t-cgi-env/a%20b/c?x=1&y=%41")
        .header("host", "example.com:81")
        .header("content-type", "text/x")
        .header("x-test-one", "1")
        .header("x-two", "a")
        .header("x-two", "b")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("proxy", "http://evil.example/")
        .header("x-secret", "client")
        .header("connection", "close")
        .body("body")
        .send()
        .await;
    let lines: Vec<&str> = answer.text().lines().collect();
    for expected in [
        "REQUEST_METHOD=POST",
        "SCRIPT_NAME=/f/t-cgi-env",
        "PATH_INFO=/a b/c",
        "X_RAW_PATH_INFO=/a%20b/c",
        "QUERY_STRING=x=1&y=%41",
        "CONTENT_TYPE=text/x",
        "CONTENT_LENGTH=4",
        "SERVER_NAME=example.com",
        "SERVER_PORT=81",
        "SERVER_PROTOCOL=HTTP/1.1",
        "GATEWAY_INTERFACE=CGI/1.1",
        "REMOTE_ADDR=127.0.0.1",
        "HTTP_X_TEST_ONE=1",
        "HTTP_X_TWO=a, b",
        "HTTP_COOKIE=a=1; b=2",
        "HTTP_HOST=example.com:81",
        "OWN=mine",
        "HTTP_X_SECRET=owner",
    ] {
        assert!(lines.contains(&expected), "{expected}: {lines:#?}");
    }
    for name in ["HTTP_PROXY=", "HTTP_CONNECTION=", "PATH=", "HOME=", "MAYFLY"] {
        assert!(!lines.iter().any(|line| line.starts_with(name)), "{name}: {lines:#?}");
    }
}

#[tokio::test]
async fn a_request_by_host_name_has_an_empty_script_name() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    let call = gateway.call(Method::GET, "/a?b").header("host", "t-cgi-env.localhost");
    let answer = call.send().await;
    for expected in ["SCRIPT_NAME=", "PATH_INFO=/a", "SERVER_NAME=t-cgi-env.localhost"] {
        assert!(answer.text().lines().any(|line| line == expected), "{}", answer.text());
    }
}
