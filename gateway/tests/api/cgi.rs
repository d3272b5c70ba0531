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

/// A program of preview 1 with a `_start` of `body`. `put` writes the first bytes of the memory.
fn program(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "args_sizes_get"
                (func $args_sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "args_get"
                (func $args (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 2)
            (data (i32.const 0) "Content-Type: text/plain\n\n")
            (func $put (param $from i32) (param $length i32)
                (i32.store (i32.const 64) (local.get $from))
                (i32.store (i32.const 68) (local.get $length))
                (drop (call $write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 72))))
            (func (export "_start") {body}))"#
    );
    wat::parse_str(text).unwrap()
}

/// A component whose `run` calls one function of `wasi:cli/exit` with `status`.
fn component_that_exits(function: &str, parameter: &str, status: u32) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "wasi:cli/exit@0.2.12" (instance $exit
                (export "{function}" (func (param {parameter})))))
            (core func $exit (canon lower (func $exit "{function}")))
            (core module $m
                (import "" "exit" (func $exit (param i32)))
                (func (export "run") (result i32)
                    (call $exit (i32.const {status})) (unreachable)))
            (core instance $i (instantiate $m
                (with "" (instance (export "exit" (func $exit))))))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $cli (export "run" (func $run)))
            (export "wasi:cli/run@0.2.12" (instance $cli)))"#
    );
    wat::parse_str(text).unwrap()
}

async fn says(gateway: &TestGateway, name: &str, text: &str) {
    crate::client::eventually(&format!("the log of {name} says {text:?}"), async || {
        let log = gateway.api(&format!("/v1/functions/{name}/logs")).await;
        log.text().contains(text).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_exit_status_is_what_the_program_gave() {
    let gateway = TestGateway::start().await;
    for (name, wasm, text) in [
        ("below", program("(call $exit (i32.const 125))"), "exited with status 125\""),
        ("shell", program("(call $exit (i32.const 126))"), "exited with status 126\""),
        ("minus", program("(call $exit (i32.const 255))"), "exited with status 255\""),
        ("most", program("(call $exit (i32.const -1))"), "exited with status 4294967295\""),
        (
            "number",
            component_that_exits("exit-with-code", "\"status-code\" u8", 200),
            "exited with status 200\"",
        ),
        (
            "error",
            component_that_exits("exit", "\"status\" (result)", 1),
            "exited with an error, and without a number",
        ),
    ] {
        assert_eq!(gateway.put(name, wasm).send().await.status(), 201, "{name}");
        let failed = gateway.get(&format!("/f/{name}/")).await;
        assert_eq!(failed.problem(), (502, "no-response"), "{name}");
        says(&gateway, name, text).await;
    }
    let zero = program("(call $put (i32.const 0) (i32.const 26)) (call $exit (i32.const 0))");
    assert_eq!(gateway.put("zero", zero).send().await.status(), 201);
    assert_eq!(gateway.get("/f/zero/").await.plain(), (200, ""));
}

#[tokio::test]
async fn output_that_never_becomes_a_head_ends_at_its_limit() {
    let gateway = TestGateway::start().await;
    // The memory is full of zeros from 1,024 on: one line that never ends.
    for (name, bytes) in [("headless", 1_000), ("piecemeal", 1)] {
        let endless =
            format!("(loop $on (call $put (i32.const 1024) (i32.const {bytes})) (br $on))");
        let deployed = gateway.put(name, program(&endless));
        let deployed = deployed.header("mayfly-settings", r#"{"cpu_ms": 30000}"#);
        assert_eq!(deployed.send().await.status(), 201, "{name}");
        let failed = gateway.get(&format!("/f/{name}/")).await;
        assert_eq!(failed.problem(), (502, "no-response"), "{name}: {failed:?}");
        says(&gateway, name, "its header is longer than 65536 bytes").await;
    }
    // A head that does end, but later.
    let late = program(
        "(call $put (i32.const 1024) (i32.const 65536)) (call $put (i32.const 0) (i32.const 26))",
    );
    assert_eq!(gateway.put("late", late).send().await.status(), 201);
    assert_eq!(gateway.get("/f/late/").await.problem(), (502, "no-response"));
    assert!(gateway.metric("mayfly_cpu_seconds_total").await < 30.0);
}

/// Answers with its arguments, each with a zero byte at its end.
fn shows_its_arguments() -> Vec<u8> {
    program(
        "(drop (call $args_sizes (i32.const 80) (i32.const 84)))
         (drop (call $args (i32.const 1024) (i32.const 4096)))
         (call $put (i32.const 0) (i32.const 26))
         (call $put (i32.const 4096) (i32.load (i32.const 84)))",
    )
}

#[tokio::test]
async fn a_query_gives_words_and_no_options() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.put("words", shows_its_arguments()).send().await.status(), 201);
    for (target, arguments) in [
        ("/f/words", "/\0"),
        ("/f/words/a/b?x=1&two%20words&&", "/a/b\0x=1\0two words\0"),
        ("/f/words/?-s", "/\0"),
        ("/f/words/?%2Ds&x&--help&%2d%2dx=1&-&a-b", "/\0x\0a-b\0"),
    ] {
        assert_eq!(gateway.get(target).await.plain(), (200, arguments), "{target}");
    }
}

#[tokio::test]
async fn the_owner_chooses_a_programs_arguments() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.put("words", shows_its_arguments()).send().await.status(), 201);
    for (arguments, shown) in [
        (json!(["python", "/app.py"]), "python\0/app.py\0"),
        (json!(["sh", "-c", "echo ${X}", "${ARGS}"]), "sh\0-c\0echo ${X}\0x\0y=1\0"),
        (json!(["${SCRIPT_NAME}", "${ARGS}", "--"]), "/f/words\0x\0y=1\0--\0"),
        (json!(["ls", "${ALL_ARGS}"]), "ls\0-l\0x\0y=1\0"),
        (json!(["find", "at ${SCRIPT_NAME}: ${ARGS}"]), "find\0at /f/words: x y=1\0"),
    ] {
        let changed = gateway.patch("words", &json!({"settings": {"arguments": arguments}})).await;
        assert_eq!(changed.status(), 200, "{changed:?}");
        assert_eq!(changed.json()["settings"]["arguments"], arguments);
        let answer = gateway.get("/f/words/p?-l&x&y=1").await;
        assert_eq!(answer.plain(), (200, shown), "{arguments}");
    }
    let zero = gateway.patch("words", &json!({"settings": {"arguments": ["a\u{0}b"]}})).await;
    assert_eq!(zero.problem(), (422, "bad-settings"));
    let many = vec!["a"; 65];
    let many = gateway.patch("words", &json!({"settings": {"arguments": many}})).await;
    assert_eq!(many.problem(), (422, "bad-settings"));
    assert!(many.detail().contains("at most 64"), "{many:?}");
}

/// Sends a body in pieces of a megabyte, without a length.
pub(crate) async fn in_pieces(
    gateway: &TestGateway,
    name: &str,
    body: &[u8],
) -> crate::client::FullResponse {
    let (pieces, call) = gateway.call(Method::POST, &format!("/f/{name}/")).pieces();
    let sent = tokio::spawn(call.send());
    for piece in body.chunks(1_000_000) {
        // The gateway may have answered before the end.
        if pieces.send(piece.to_vec().into()).await.is_err() {
            break;
        }
    }
    drop(pieces);
    sent.await.unwrap()
}

#[tokio::test]
async fn a_body_of_unknown_length_is_buffered_and_its_length_is_told() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    gateway.deploy("echo-cgi").await;
    for length in [0, 1, 65_536, 3_000_001] {
        let answer = in_pieces(&gateway, "t-cgi-env", &vec![b'x'; length]).await;
        let lines: Vec<&str> = answer.text().lines().collect();
        assert!(lines.contains(&&*format!("CONTENT_LENGTH={length}")), "{lines:#?}");
        assert!(!answer.text().contains("HTTP_TRANSFER_ENCODING"), "{lines:#?}");
    }
    // Beyond 64 KiB the body is in a file.
    let body: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let answer = in_pieces(&gateway, "echo-cgi", &body).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes() == body, "the bodies differ");
    let get = gateway.get("/f/t-cgi-env/").await;
    assert!(get.text().lines().any(|line| line == "CONTENT_LENGTH="), "{}", get.text());
    gateway.metric_becomes("mayfly_buffered_body_bytes", 0.0).await;
    gateway.no_uploads_left().await;
}

#[tokio::test]
async fn a_function_may_ask_for_a_body_while_it_arrives() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-cgi-env", &json!({"stream_body": true})).await;
    let (pieces, call) = gateway.call(Method::POST, "/f/t-cgi-env/").pieces();
    // The program does not read, so it answers although the body never ends.
    let answer = call.send().await;
    drop(pieces);
    assert!(answer.text().lines().any(|line| line == "CONTENT_LENGTH="), "{}", answer.text());
}

#[tokio::test]
async fn a_body_that_cannot_be_buffered_is_refused_with_the_reason() {
    let limits = ["guests.buffer_bytes=2MiB", "pool.buffer_bytes=1MiB"];
    let mut gateway = TestGateway::with(&limits[..1]).await;
    gateway.expect_errors();
    gateway.deploy("echo-cgi").await;
    let large = in_pieces(&gateway, "echo-cgi", &vec![0; 3 << 20]).await;
    assert_eq!(large.problem(), (413, "request-too-large"));
    assert!(large.json()["hint"].as_str().unwrap().contains("guests.buffer_bytes"), "{large:?}");
    // A length makes it no concern of the buffers.
    let told = gateway.call(Method::POST, "/f/echo-cgi/").body(vec![0; 3 << 20]).send().await;
    assert_eq!((told.status(), told.bytes().len()), (200, 3 << 20));
    let hit = [("limit", "buffer_bytes")];
    assert_eq!(gateway.metric_with("mayfly_limit_hits_total", &hit).await, 1.0);

    gateway.terminate();
    gateway.exit().await;
    gateway.start_with(&limits).await;
    let full = in_pieces(&gateway, "echo-cgi", &vec![0; 2_000_000]).await;
    assert_eq!(full.problem(), (503, "buffer-limit"));
    assert!(full.header("retry-after").is_some());
    gateway.metric_becomes("mayfly_buffered_body_bytes", 0.0).await;
    let small = in_pieces(&gateway, "echo-cgi", &vec![0; 500_000]).await;
    assert_eq!((small.status(), small.bytes().len()), (200, 500_000));
}

#[tokio::test]
async fn a_command_of_wasi_0_3_reads_and_writes_as_others_do() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-command-p3", &json!({"cpu_ms": 30_000})).await;
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let echoed = gateway.call(Method::POST, "/f/t-command-p3/echo").body(body.clone()).send().await;
    assert_eq!(echoed.status(), 200);
    assert!(echoed.bytes() == body, "the bodies differ");
    for (path, text) in [
        ("headless", "its header is longer than 65536 bytes"),
        ("error", "its `run` returned an error"),
        ("exit", "it exited with status 200"),
    ] {
        let failed = gateway.get(&format!("/f/t-command-p3/{path}")).await;
        assert_eq!(failed.problem(), (502, "no-response"), "{path}: {failed:?}");
        says(&gateway, "t-command-p3", text).await;
    }
    assert!(gateway.metric("mayfly_cpu_seconds_total").await < 30.0);
}
