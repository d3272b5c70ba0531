//! Shutdown under load and with open streams; reloads of the settings; systemd.

use std::{
    fs,
    net::TcpListener,
    os::{fd::AsRawFd as _, unix::net::UnixDatagram},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::Method;
use rustix::process::Signal;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time,
};

use crate::{
    client::eventually,
    guests::guest,
    test_gateway::{MAYFLY, TestGateway},
};

/// The result of a request.
enum ExchangeResult {
    /// A complete response. The flag says whether the connection stays open.
    Complete(bool),
    /// No connection, or not one byte of a response.
    None,
    /// An aborted response.
    Aborted(Vec<u8>),
}

async fn exchange(socket: &mut TcpStream) -> ExchangeResult {
    let get = b"GET /f/c-hello/ HTTP/1.1\r\nhost: a\r\n\r\n";
    if socket.write_all(get).await.is_err() {
        return ExchangeResult::None;
    }
    let mut said = Vec::new();
    loop {
        let mut piece = [0; 4096];
        match socket.read(&mut piece).await {
            Ok(read @ 1..) => said.extend_from_slice(&piece[..read]),
            Ok(0) | Err(_) if said.is_empty() => return ExchangeResult::None,
            Ok(_) | Err(_) => return ExchangeResult::Aborted(said),
        }
        if said.starts_with(b"HTTP/1.1 200 OK\r\n") && said.ends_with(b"\r\n\r\nhello from c\n") {
            let text = String::from_utf8_lossy(&said);
            return ExchangeResult::Complete(!text.contains("\r\nconnection: close\r\n"));
        }
    }
}

/// Case D01.
#[tokio::test]
async fn sigterm_under_load_aborts_no_request() {
    const CLIENTS: usize = 16;
    // Together the clients send 500 requests a second, as far as the machine allows.
    const EACH: Duration = Duration::from_millis(32);
    let mut gateway = TestGateway::with(&["server.unready_ms=2000"]).await;
    gateway.deploy("c-hello").await;
    let address = gateway.data();
    let (stopping, unserved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let (stopping, unserved) = (Arc::clone(&stopping), Arc::clone(&unserved));
        clients.spawn(async move {
            let mut served = 0;
            let mut due = time::interval(EACH);
            'connections: loop {
                // Half of the clients open a connection for each request.
                let Ok(mut socket) = TcpStream::connect(address).await else {
                    assert!(stopping.load(Relaxed), "refused before the shutdown");
                    return served;
                };
                loop {
                    due.tick().await;
                    match exchange(&mut socket).await {
                        ExchangeResult::Complete(goes_on) => {
                            served += 1;
                            if !goes_on || n % 2 == 0 {
                                continue 'connections;
                            }
                        }
                        ExchangeResult::None => {
                            // The request came after the listener had closed.
                            assert!(stopping.load(Relaxed), "not answered");
                            unserved.fetch_add(1, Relaxed);
                            continue 'connections;
                        }
                        ExchangeResult::Aborted(said) => {
                            panic!("cut: {}", String::from_utf8_lossy(&said))
                        }
                    }
                }
            }
        });
    }
    time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    gateway.terminate();
    time::sleep(Duration::from_millis(1_500)).await;
    stopping.store(true, Relaxed);
    let served: usize = clients.join_all().await.into_iter().sum();
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(served > 200, "{served}");
    assert!(began.elapsed() >= Duration::from_secs(2), "the pause");
    // A connection may be opened at the moment at which the listener closes.
    assert!(unserved.load(Relaxed) <= CLIENTS, "{unserved:?} of {served}");
}

/// Case D01.
#[tokio::test]
async fn http2_streams_complete_and_no_new_ones_begin() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-sleep").await;
    let connection = crate::client::Http2::open(gateway.data()).await;
    let url = format!("http://{}/f/t-sleep/?ms=1500", gateway.data());
    let slow = tokio::spawn(async move {
        let answers = (0..20).map(|_| connection.post(&url, ""));
        futures_util::future::join_all(answers).await
    });
    gateway.metric_becomes("mayfly_live_instances", 20.0).await;
    gateway.terminate();
    for answer in slow.await.unwrap() {
        assert_eq!(answer.plain(), (200, "slept\n"));
    }
    assert_eq!(gateway.exit().await.code(), Some(0));
}

/// Case D01.
#[tokio::test]
async fn an_interrupt_from_the_keyboard_stops_the_gateway_without_a_pause() {
    let mut gateway = TestGateway::with(&["server.unready_ms=3600000"]).await;
    gateway.signal(Signal::INT);
    assert_eq!(gateway.exit().await.code(), Some(0));
}

/// Case D06.
#[tokio::test]
async fn a_bad_reload_changes_nothing_and_names_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mayfly.toml");
    fs::write(&file, "[logs]\nlevel = \"info\"\n").unwrap();
    let mut command = Command::new(MAYFLY);
    command.env_clear().env("MAYFLY_CONFIG", &file);
    let mut gateway = TestGateway::by(command, &[]).await;
    gateway.expect_errors();
    let says = async |text: &str| {
        eventually(text, async || gateway.log().contains(text).then_some(())).await;
    };

    fs::write(&file, "[logs]\nlevel = \"info\"\n\n[limits]\ncpu_msx = 5\n").unwrap();
    gateway.signal(Signal::HUP);
    says("mayfly.toml:5:1: unknown setting `limits.cpu_msx`; did you mean `limits.cpu_ms`?").await;
    fs::write(&file, "[logs]\nlevel = \"loud\"\n").unwrap();
    gateway.signal(Signal::HUP);
    says("mayfly.toml:2:1").await;
    gateway.metric_becomes("mayfly_reloads_total", 2.0).await;
    assert_eq!(gateway.api("/v1/functions").await.status(), 200);

    // Settings that can change do; the others are named.
    fs::write(&file, "[logs]\nlevel = \"warn\"\n\n[server]\nin_flight = 7\n").unwrap();
    gateway.signal(Signal::HUP);
    says("server.in_flight").await;
    let lines = gateway.log().lines().count();
    assert_eq!(gateway.api("/v1/functions").await.status(), 200);
    assert_eq!(gateway.log().lines().count(), lines, "requests are logged below `warn`");
    fs::write(&file, "[logs]\nlevel = \"info\"\n").unwrap();
    gateway.signal(Signal::HUP);
    says("the settings were reloaded").await;
}

/// Case D06.
#[tokio::test]
async fn limits_change_for_calls_that_begin_after_the_reload() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mayfly.toml");
    fs::write(&file, "[limits]\nrequest_bytes = 2000\n[quotas]\nfunctions = 1\n").unwrap();
    let mut command = Command::new(MAYFLY);
    command.env_clear().env("MAYFLY_CONFIG", &file);
    let mut gateway = TestGateway::by(command, &[]).await;
    gateway.expect_errors();
    gateway.deploy_with("echo", &json!({"cpu_ms": 5_000})).await;
    let quota = gateway.put("t-sleep", guest("t-sleep")).send().await;
    assert_eq!(quota.problem(), (409, "function-quota"));
    let post =
        async |bytes| gateway.call(Method::POST, "/f/echo/").body(vec![7; bytes]).send().await;
    assert_eq!(post(1_500).await.status(), 200);
    let (pieces, call) = gateway.call(Method::POST, "/f/echo/").pieces();
    let in_flight = tokio::spawn(call.send());
    pieces.send(vec![7; 500].into()).await.unwrap();
    gateway.metric_becomes("mayfly_live_instances", 1.0).await;

    // An invalid setting changes nothing.
    fs::write(&file, "[limits]\nrequest_bytes = 1000\n[quotas]\nfunctions = -1\n").unwrap();
    gateway.signal(Signal::HUP);
    gateway.metric_becomes("mayfly_reloads_total", 1.0).await;
    assert!(gateway.log().contains("mayfly.toml:4:1"), "the log names the line");
    assert_eq!(gateway.api("/v1/limits").await.json()["limits"]["request_bytes"], 2_000);
    assert_eq!(post(1_500).await.status(), 200);

    let limits = "[limits]\nrequest_bytes = 1000\ntimeout_ms = 700\n";
    let ceilings = "[ceilings]\ncpu_ms = 3000\nmemory_bytes = \"1GiB\"\n";
    fs::write(&file, format!("{limits}{ceilings}[quotas]\nfunctions = 100\n")).unwrap();
    gateway.signal(Signal::HUP);
    gateway.metric_becomes("mayfly_reloads_total", 2.0).await;
    let shown = gateway.api("/v1/limits").await.json().clone();
    assert_eq!(
        (&shown["limits"]["request_bytes"], &shown["quotas"]["functions"]),
        (&1_000.into(), &100.into())
    );
    // The engines keep the capacity that they had at the start.
    assert_eq!(shown["ceilings"]["memory_bytes"], 512 << 20);
    let later = gateway.log();
    let later = later.lines().find(|line| line.contains("these settings change at the next start"));
    assert!(later.unwrap().contains("\"ceilings.memory_bytes\""), "{later:?}");

    assert_eq!(post(1_500).await.problem(), (413, "request-too-large"));
    assert_eq!(post(1_000).await.status(), 200);
    pieces.send(vec![7; 1_000].into()).await.unwrap();
    drop(pieces);
    assert_eq!(
        in_flight.await.unwrap().bytes().len(),
        1_500,
        "the request started under the old limit"
    );
    let echo = gateway.show("echo").await.json().clone();
    assert_eq!(
        (&echo["settings"]["cpu_ms"], &echo["limits"]["cpu_ms"]),
        (&5_000.into(), &3_000.into())
    );
    assert_eq!((&echo["limits"]["timeout_ms"], &echo["revision"]), (&700.into(), &1.into()));
    assert_eq!(echo["state"], "loaded");
    gateway.deploy("t-sleep").await;
    let late = gateway.get("/f/t-sleep/?ms=250000").await;
    assert_eq!(late.problem(), (504, "timeout"));
    assert!(late.detail().contains("700 ms"), "{late:?}");
    gateway.metric_becomes("mayfly_resident_functions", 2.0).await;
}

/// The part of a service manager that speaks the notification protocol.
struct ServiceManager {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
}

impl ServiceManager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { dir, socket }
    }

    /// Waits for a message that contains `wanted`.
    async fn receives(&self, wanted: &str) -> String {
        eventually(wanted, async || {
            let mut message = [0; 1_024];
            while let Ok(length) = self.socket.recv(&mut message) {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                if text.contains(wanted) {
                    return Some(text);
                }
            }
            None
        })
        .await
    }
}

#[tokio::test]
async fn systemd_is_notified_of_ready_alive_reloading_and_stopping() {
    let manager = ServiceManager::new();
    let mut command = Command::new(MAYFLY);
    command
        .env_clear()
        .env("NOTIFY_SOCKET", manager.dir.path().join("notify"))
        .env("WATCHDOG_USEC", "400000");
    let mut gateway = TestGateway::by(command, &[]).await;
    manager.receives("READY=1").await;
    for _ in 0..3 {
        manager.receives("WATCHDOG=1").await;
    }
    gateway.signal(Signal::HUP);
    assert!(manager.receives("RELOADING=1").await.contains("MONOTONIC_USEC="));
    manager.receives("READY=1").await;
    gateway.terminate();
    manager.receives("STOPPING=1").await;
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn sockets_that_systemd_opened_are_used() {
    let sockets =
        [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    for socket in &sockets {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
    }
    let [data, control] = sockets.each_ref().map(|socket| socket.as_raw_fd());
    let shell = format!(
        "exec 3<&{data} 4<&{control}; export LISTEN_FDS=2 LISTEN_PID=$$; exec \"$0\" \"$@\""
    );
    // Not every shell supports descriptors of two digits.
    let mut command = Command::new("/bin/bash");
    command.env_clear().args(["-c", &shell, MAYFLY]);
    let mut gateway = TestGateway::by(command, &[]).await;
    assert_eq!([gateway.data(), gateway.control_address()], addresses);
    gateway.deploy("c-hello").await;
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    gateway.terminate();
    assert_eq!(gateway.exit().await.code(), Some(0));
    // The listening sockets stay open: a connection waits instead of being refused.
    assert!(TcpStream::connect(addresses[0]).await.is_ok());
    let refused = gateway.call(Method::GET, "/").try_send();
    assert!(time::timeout(Duration::from_millis(300), refused).await.is_err());
}
