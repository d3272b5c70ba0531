//! More connections than there may be.

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Duration,
};

use crate::{client::Connection, hostile_clients::until_closed, test_gateway::TestGateway};

/// Seconds of CPU time that the gateway has used.
fn cpu_seconds(gateway: &TestGateway) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

#[tokio::test]
async fn h04_idle_connections_cost_little_and_those_beyond_the_cap_are_refused() {
    // What a connection takes that has said nothing, and one that has been answered: then the
    // protocol library holds its two buffers of 8 KiB.
    const SILENT: u64 = 24 << 10;
    const ANSWERED: u64 = 48 << 10;
    let half: usize = if std::env::var_os("MAYFLY_LONG").is_some() { 5_000 } else { 500 };
    let cap = format!("server.connections={}", 2 * half + 1);
    let settings = [
        &cap,
        "server.connections_per_address=0",
        // None may leave while the others come.
        "server.header_timeout_ms=3600000",
        "server.idle_timeout_ms=3600000",
    ];
    let gateway = TestGateway::with(&settings).await;
    gateway.deploy("c-hello").await;
    // Both ends of all connections are on this machine; this process needs descriptors, too.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(Resource::Nofile, raised).unwrap();
    let mut first = Connection::open(gateway.data()).await;
    assert_eq!(first.get("/f/c-hello/").await.status(), 200);
    let mut idle = Vec::new();
    let mut each = Vec::new();
    for (count, said) in [(half, ""), (2 * half, "GET / HTTP/1.1\r\nhost: a\r\n\r\n")] {
        let before = gateway.resident_bytes();
        while idle.len() < count {
            let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
            socket.write_all(said.as_bytes()).await.unwrap();
            if !said.is_empty() {
                let mut start = [0; 12];
                socket.read_exact(&mut start).await.unwrap();
            }
            idle.push(socket);
        }
        gateway.metric_becomes("mayfly_connections", (count + 2) as f64).await;
        each.push(gateway.resident_bytes().saturating_sub(before) / half as u64);
    }
    assert!(each[0] <= SILENT && each[1] <= ANSWERED, "{each:?} bytes for each connection");

    let mut refused = TcpStream::connect(gateway.data()).await.unwrap();
    assert_eq!(until_closed(&mut refused).await, "");
    let metrics = gateway.anonymous(http::Method::GET, "/metrics").send().await;
    let counted = r#"mayfly_connections_ended_total{plane="data",reason="connections"} 1"#;
    assert!(metrics.text().contains(counted));
    assert_eq!(first.get("/f/c-hello/").await.status(), 200);
}

#[tokio::test]
async fn o06_few_descriptors_leave_room_for_the_control_plane() {
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

#[tokio::test]
async fn o06_without_descriptors_it_waits_without_spinning_and_recovers() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let mut kept = Connection::open(gateway.data()).await;
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
    assert!(share < 0.2, "{share} of a core while nothing can be accepted");
    assert_eq!(kept.get("/f/c-hello/").await.status(), 200);
    prlimit(pid, Resource::Nofile, before).unwrap();
    assert!(gateway.metric("mayfly_accept_failures_total").await > 0.0);
    assert_eq!(gateway.get("/f/c-hello/").await.status(), 200);
}
