//! The ends of guests and of their callers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{GuestWatch, times};
use crate::{client::eventually, test_gateway::TestGateway};

/// Case G22.
#[tokio::test]
async fn a_trap_before_the_head_shows_the_public_no_details() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-trap").await;
    let watch = GuestWatch::begin(&gateway).await;
    let calls = times(50, 1_000);
    for _ in 0..calls {
        let failed = gateway.get("/f/t-trap/trap").await;
        assert_eq!(failed.problem(), (502, "function-failed"));
        for detail in ["unreachable", "backtrace", "wasm", "0x"] {
            assert!(!failed.text().contains(detail), "{failed:?}");
        }
    }
    watch.end(&[("function-failed", calls)]).await;
}

/// Case G24.
#[tokio::test]
async fn a_guest_that_ends_without_a_response_is_a_bad_gateway() {
    let gateway = Arc::new(TestGateway::start().await);
    let ends = [
        ("t-hostile", "/f/t-hostile/exit", "status 0"),
        ("t-hostile-cgi", "/f/t-hostile-cgi/exit", "nothing"),
        ("t-exit", "/f/t-exit/", "exited with an error"),
        ("t-exit-cgi", "/f/t-exit-cgi/", "status 7"),
        ("t-no-response", "/f/t-no-response/", "without"),
    ];
    for (name, _, _) in ends {
        gateway.deploy(name).await;
    }
    let watch = GuestWatch::begin(&gateway).await;
    for (name, target, says) in ends {
        assert_eq!(gateway.get(target).await.problem(), (502, "no-response"), "{target}");
        let lines = gateway.log_lines(name, 1).await;
        let said = lines.iter().any(|line| line["line"].as_str().unwrap().contains(says));
        assert!(said, "{target}: {lines:?}");
    }
    watch.end(&[("no-response", 5)]).await;
}

/// Case G24.
#[tokio::test]
async fn the_log_says_what_to_change_about_a_wrong_response() {
    let gateway = Arc::new(TestGateway::start().await);
    let ways = [
        ("length?claim=10&bytes=5", (502, "no-response"), "says 10 bytes, and it wrote 5"),
        ("length?claim=10&bytes=50", (502, "no-response"), "says 10 bytes, and it writes more"),
        ("unready?way=1", (504, "timeout"), "give it first (response-outparam.set"),
        ("unready?way=2", (502, "no-response"), "call outgoing-body.finish"),
        ("unready?way=3", (502, "function-failed"), "drop a stream before its body"),
        ("unready?way=4", (502, "function-failed"), "ask check-write before each write"),
        ("unready?way=5", (502, "no-response"), "without one (response-outparam.set)"),
    ];
    gateway.deploy_with("t-hostile", &json!({"timeout_ms": 2_000})).await;
    for (way, problem, says) in ways {
        let answer = gateway.get(&format!("/f/t-hostile/{way}")).await;
        assert_eq!(answer.problem(), problem, "{way}");
        let said = async || {
            let log = gateway.api("/v1/functions/t-hostile/logs?limit=1000").await;
            log.text().contains(says).then_some(())
        };
        eventually(&format!("the log says `{says}`"), said).await;
    }
}

/// Case G25.
#[tokio::test]
async fn sleeping_ends_at_the_wall_clock_limit_and_costs_no_cpu_time() {
    let gateway = Arc::new(TestGateway::start().await);
    let settings = json!({"timeout_ms": 200, "concurrency": 1, "queue": 0});
    gateway.deploy_with("t-sleep", &settings).await;
    gateway.deploy_with("t-hostile-cgi", &settings).await;
    gateway.deploy_with("t-hostile-p3", &settings).await;
    let watch = GuestWatch::begin(&gateway).await;
    let before = gateway.metric("mayfly_cpu_seconds_total").await;
    for target in
        ["/f/t-sleep/?ms=250000", "/f/t-hostile-cgi/sleep", "/f/t-hostile-p3/clock?ms=250000"]
    {
        // The only slot is free again each time.
        for _ in 0..3 {
            assert_eq!(gateway.get(target).await.problem(), (504, "timeout"), "{target}");
        }
    }
    let used = gateway.metric("mayfly_cpu_seconds_total").await - before;
    // Together with the canary.
    assert!(used < 1.0, "nine sleeps took {used} s");
    watch.end(&[("timeout", 9)]).await;
}

/// Case G30.
#[tokio::test]
async fn a_guest_that_runs_on_after_its_response_is_aborted() {
    let gateway = Arc::new(TestGateway::start().await);
    for name in ["t-after", "t-hostile-p3"] {
        gateway.deploy_with(name, &json!({"cpu_ms": 30_000})).await;
    }
    let watch = GuestWatch::begin(&gateway).await;
    for target in ["/f/t-after/", "/f/t-hostile-p3/after"] {
        assert_eq!(gateway.get(target).await.plain(), (200, "answered\n"), "{target}");
        gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    }
    let used = gateway.metric("mayfly_cpu_seconds_total").await;
    assert!(used < 15.0, "close to their CPU limit: {used}");
    watch.end(&[("ok", 2)]).await;
    let metrics = gateway.api("/metrics").await;
    assert!(metrics.text().contains(r#"mayfly_limit_hits_total{limit="after_response"} 2"#));
}

/// Case G29.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_disconnect_at_any_byte_leave_nothing_behind() {
    let gateway = Arc::new(TestGateway::start().await);
    for name in ["echo", "echo-p3", "echo-cgi", "t-big", "sse"] {
        gateway.deploy(name).await;
    }
    let watch = GuestWatch::begin(&gateway).await;
    let body = "x".repeat(100_000);
    let post = |name| {
        format!("POST /f/{name}/ HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{body}")
    };
    let requests = [
        post("echo"),
        post("echo-p3"),
        post("echo-cgi"),
        "GET /f/t-big/?bytes=1000000 HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET /f/sse/?n=100&ms=5 HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
    ];
    let mut random = XorShift(0x5eed);
    for n in 0..times(1_000, 10_000) {
        let request = requests[n % requests.len()].as_bytes();
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        // The caller disconnects during the request or during the response.
        let written = random.below(2 * request.len()).min(request.len());
        // The gateway may have responded and closed the connection.
        drop(socket.write_all(&request[..written]).await);
        if written == request.len() {
            let mut left = vec![0; random.below(20_000)];
            let reading = socket.read(&mut left);
            drop(tokio::time::timeout(Duration::from_millis(3), reading).await);
        }
    }
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    // The number of complete requests is unknown, so outcomes are not compared.
    watch.settles().await;
}

/// Case G29.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_ends_soon_after_its_caller_disconnects() {
    // At once, and not only when their callers have had time for an answer.
    let settings = ["limits.timeout_ms=300000", "server.half_close_ms=0"];
    let gateway = Arc::new(TestGateway::with(&settings).await);
    let targets = [
        "/f/t-sleep/?ms=250000",
        "/f/t-loop/",
        "/f/sse/?n=1000&ms=1000",
        "/f/t-hostile-p3/loop",
        "/f/t-hostile-p3/wait?first=10&ms=250000",
        "/f/t-hostile-cgi/sleep",
        "/f/t-hostile-cgi/loop",
    ];
    for name in ["t-sleep", "t-loop", "sse", "t-hostile-p3", "t-hostile-cgi"] {
        gateway.deploy_with(name, &json!({"cpu_ms": 30_000})).await;
    }
    let mut took = Vec::new();
    for n in 0..times(21, 700) {
        let target = targets[n % targets.len()];
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        gateway.metric_becomes("mayfly_live_instances", 1.0).await;
        drop(socket);
        let since = Instant::now();
        gateway.metric_becomes("mayfly_live_instances", 0.0).await;
        took.push((since.elapsed(), target));
    }
    took.sort_unstable();
    // Including the poll of the metric and the other tests on this machine.
    let median = took[took.len() / 2].0;
    assert!(median < Duration::from_millis(500), "a median of {median:?}: {took:?}");
    assert!(took[took.len() - 1].0 < Duration::from_secs(5), "{took:?}");
}

/// Pseudo-random numbers, the same each time.
struct XorShift(u64);

impl XorShift {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}
