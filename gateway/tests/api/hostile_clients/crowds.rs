//! More connections than the limits allow.

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{self, Duration},
};

use crate::{
    client::{DEADLINE, Http1, eventually},
    hostile_clients::{assert_problem, until_closed},
    test_gateway::TestGateway,
};

/// The CPU seconds that the gateway has used.
fn cpu_seconds(gateway: &TestGateway) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Case H04.
#[tokio::test]
async fn idle_connections_cost_little_and_those_beyond_the_cap_are_refused() {
    // The memory of a connection that has sent nothing, of one that has just been answered, and of
    // one that was answered after others have become idle and returned their buffers.
    const SILENT: u64 = 4 << 10;
    const ANSWERED: u64 = 24 << 10;
    const AFTER_OTHERS: u64 = 18 << 10;
    let third: usize = if std::env::var_os("MAYFLY_LONG").is_some() { 3_000 } else { 500 };
    let cap = format!("server.connections={}", 3 * third + 1);
    let settings = [
        &cap,
        "server.connections_per_address=0",
        // No connection may time out during the test.
        "server.header_timeout_ms=3600000",
        "server.idle_timeout_ms=3600000",
    ];
    let gateway = TestGateway::with(&settings).await;
    gateway.deploy("c-hello").await;
    // Both ends of all connections are on this machine, so this process needs descriptors, too.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(Resource::Nofile, raised).unwrap();
    let mut first = Http1::open(gateway.data()).await;
    assert_eq!(first.get("/f/c-hello/").await.status(), 200);
    let mut idle = Vec::new();
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for (said, most) in [("", SILENT), (get, ANSWERED), (get, AFTER_OTHERS)] {
        let before = gateway.resident_bytes();
        for _ in 0..third {
            let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
            socket.write_all(said.as_bytes()).await.unwrap();
            if !said.is_empty() {
                let mut start = [0; 12];
                socket.read_exact(&mut start).await.unwrap();
            }
            idle.push(socket);
        }
        gateway.metric_becomes("mayfly_connections", (idle.len() + 2) as f64).await;
        let each = gateway.resident_bytes().saturating_sub(before) / third as u64;
        assert!(each <= most, "{each} bytes for each connection instead of {most}");
        // All connections but the silent ones.
        let idle_connections = 1 + idle.len() - third;
        gateway.metric_becomes("mayfly_connections_idle", idle_connections as f64).await;
    }

    let mut refused = TcpStream::connect(gateway.data()).await.unwrap();
    assert_eq!(until_closed(&mut refused).await, "");
    let metrics = gateway.api("/metrics").await;
    let counted = r#"mayfly_connections_ended_total{plane="data",reason="connections"} 1"#;
    assert!(metrics.text().contains(counted));
    assert_eq!(first.get("/f/c-hello/").await.status(), 200);
}

/// Two sockets whose connections are idle after one request each.
async fn idle_connections(gateway: &TestGateway) -> [TcpStream; 2] {
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        socket.write_all(b"GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(until(&mut socket, "hello from c\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
        sockets.push(socket);
    }
    gateway.metric_becomes("mayfly_connections_idle", 2.0).await;
    sockets.try_into().unwrap()
}

/// Reads until the text contains `last`.
async fn until(socket: &mut TcpStream, last: &str) -> String {
    let mut said = String::new();
    while !said.contains(last) {
        let mut piece = [0; 1_000];
        let bytes = time::timeout(DEADLINE, socket.read(&mut piece)).await.unwrap().unwrap();
        assert!(bytes > 0, "closed after {said}");
        said.push_str(std::str::from_utf8(&piece[..bytes]).unwrap());
    }
    said
}

/// Case H04.
#[tokio::test]
async fn an_idle_connection_is_served_as_before() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    gateway.deploy("echo").await;
    let [mut one, mut other] = idle_connections(&gateway).await;
    // Two pipelined requests, the second with a body in pieces, and the beginning of a third.
    let start = "GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\n\r\n\
                 POST /f/echo/ HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc";
    one.write_all(start.as_bytes()).await.unwrap();
    assert!(until(&mut one, "abc").await.contains("hello from c\n"));
    one.write_all(b"defGE").await.unwrap();
    until(&mut one, "def").await;
    one.write_all(b"T /f/c-hello/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut one).await.ends_with("hello from c\n"));
    // A malformed request in single bytes.
    for byte in b"GET /f/c-hello/ HTTP/1.1\nhost: a\r\n\r\n" {
        other.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_problem(&until_closed(&mut other).await, 400, "malformed-request", "a bare LF");
    gateway.metric_becomes("mayfly_connections_idle", 0.0).await;
}

/// Case H04.
#[tokio::test]
async fn an_idle_connection_keeps_its_timeouts() {
    let timeouts = ["server.header_timeout_ms=1000", "server.idle_timeout_ms=4000"];
    let mut gateway = TestGateway::with(&timeouts).await;
    gateway.deploy("c-hello").await;
    let [mut silent, mut slow] = idle_connections(&gateway).await;
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(
        (until_closed(&mut slow).await, until_closed(&mut silent).await),
        Default::default()
    );
    for reason in ["header-timeout", "idle-timeout"] {
        eventually(reason, async || {
            let labels = [("plane", "data"), ("reason", reason)];
            let ended = gateway.metric_with("mayfly_connections_ended_total", &labels).await;
            (ended == 1.0).then_some(())
        })
        .await;
    }
    // Idle connections do not delay the shutdown.
    let _resting = idle_connections(&gateway).await;
    gateway.terminate();
    assert!(gateway.exit().await.success());
    assert!(!gateway.log().contains("connections were aborted"));
}

/// Case O06.
#[tokio::test]
async fn few_descriptors_leave_room_for_the_control_plane() {
    let gateway = TestGateway::with_descriptors(256).await;
    gateway.deploy("c-hello").await;
    let mut sockets = Vec::new();
    for _ in 0..200 {
        sockets.push(TcpStream::connect(gateway.data()).await.unwrap());
    }
    gateway.metric_becomes("mayfly_connections_ended_total", 200.0 - 128.0).await;
    assert_eq!(gateway.api("/v1/functions").await.status(), 200);
    gateway.deploy("echo").await;
}

/// Case O06.
#[tokio::test]
async fn without_descriptors_accepting_waits_without_spinning_and_recovers() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let mut kept = Http1::open(gateway.data()).await;
    assert_eq!(kept.get("/f/c-hello/").await.status(), 200);
    let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
    let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count() as u64;
    let few = Rlimit { current: Some(open), maximum: None };
    let before = prlimit(
        pid,
        Resource::Nofile,
        Rlimit { maximum: rustix::process::getrlimit(Resource::Nofile).maximum, ..few },
    )
    .unwrap();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(TcpStream::connect(gateway.data()).await.unwrap());
    }
    let used = cpu_seconds(&gateway);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let share = (cpu_seconds(&gateway) - used) / 2.0;
    assert!(share < 0.2, "{share} of a core while accepting is impossible");
    assert_eq!(kept.get("/f/c-hello/").await.status(), 200);
    prlimit(pid, Resource::Nofile, before).unwrap();
    assert!(gateway.metric("mayfly_accept_failures_total").await > 0.0);
    assert_eq!(gateway.get("/f/c-hello/").await.status(), 200);
}
