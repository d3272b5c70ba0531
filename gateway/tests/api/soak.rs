//! Every sort of attack in round, for a long time: nothing may accumulate.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::Method;
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time};

use crate::{
    client::{Http1, TestRequest},
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

/// The length of the test: a few rounds of attacks by default, and with `MAYFLY_LONG=1` long enough
/// for a leak to show.
fn length() -> Duration {
    let long = std::env::var_os("MAYFLY_LONG").is_some_and(|value| value == "1");
    if long { Duration::from_mins(20) } else { Duration::from_secs(12) }
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// One attack of each sort. Their outcomes are tested elsewhere.
async fn attack(gateway: &TestGateway, round: u32) {
    let get = |target: &str| gateway.call(Method::GET, target).try_send();
    let short = Duration::from_millis(100);
    // Guests that loop, trap, hoard memory, abort their response or give none.
    for target in
        ["/f/t-loop/", "/f/t-trap/", "/f/t-memory/", "/f/t-trap-mid/", "/f/t-no-response/"]
    {
        drop(get(target).await);
    }
    // Clients that disconnect.
    drop(time::timeout(short, get("/f/t-big/?bytes=10000000000")).await);
    drop(time::timeout(short, get("/f/t-sleep/?ms=30000")).await);
    // Clients that send a part of a request, or other bytes, and disconnect.
    for bytes in
        [&b"GET / HTTP/1.1\r\nhost"[..], b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n"]
    {
        let mut stream = TcpStream::connect(gateway.data()).await.unwrap();
        drop(stream.write_all(bytes).await);
    }
    // An invalid upload, a valid one, and a function that is called and deleted.
    drop(gateway.put("bad", "no wasm at all").try_send().await);
    drop(gateway.put("comes-and-goes", distinct(&guest("c-hello"), round)).try_send().await);
    drop(get("/f/comes-and-goes/").await);
    drop(gateway.control(Method::DELETE, "/v1/functions/comes-and-goes").try_send().await);
    // A guessed token.
    let guess = TestRequest::new(gateway.control_address(), Method::GET, "/v1/tokens");
    drop(guess.header("authorization", "Bearer mfy_0_0").try_send().await);
}

/// Case O10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_time_under_attack_leaves_nothing_behind() {
    let gateway = Arc::new(TestGateway::start().await);
    let names = ["t-loop", "t-trap", "t-memory", "t-trap-mid", "t-no-response", "t-big", "t-sleep"];
    for name in names {
        gateway.deploy_with(name, &json!({"cpu_ms": 50, "timeout_ms": 2_000})).await;
    }
    gateway.deploy("hello").await;
    // Growth that happens only once happens here.
    for round in 0..3 {
        attack(&gateway, round).await;
    }
    let pid = gateway.pid();
    let (began, length) = (Instant::now(), length());
    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let canary = {
        let (gateway, over, answered) =
            (Arc::clone(&gateway), Arc::clone(&over), Arc::clone(&answered));
        tokio::spawn(async move {
            let mut connection = Http1::open(gateway.data()).await;
            while !over.load(Relaxed) {
                assert_eq!(connection.get("/f/hello/").await.plain(), (200, "hello from rust\n"));
                answered.fetch_add(1, Relaxed);
                time::sleep(Duration::from_millis(2)).await;
            }
        })
    };
    let mut sizes = Vec::new();
    let mut round = 3;
    while began.elapsed() < length {
        attack(&gateway, round).await;
        sizes.push((began.elapsed(), gateway.resident_bytes() as f64 / f64::from(1 << 20)));
        round += 1;
    }
    over.store(true, Relaxed);
    canary.await.unwrap();
    assert!(answered.load(Relaxed) > 100);
    assert_eq!(gateway.pid(), pid);
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    gateway.metric_becomes("mayfly_waiting_invocations", 0.0).await;
    crate::client::eventually("the connections are closed", async || {
        (descriptors(pid) < 100).then_some(())
    })
    .await;
    // Compares the maximum of the second quarter with the maximum of the last.
    let most = |from: f64, to: f64| {
        let within =
            |at: &Duration| (from..to).contains(&(at.as_secs_f64() / length.as_secs_f64()));
        sizes.iter().filter(|(at, _)| within(at)).map(|(_, size)| *size).fold(0.0, f64::max)
    };
    let (before, after) = (most(0.25, 0.5), most(0.75, f64::INFINITY));
    assert!(before > 0.0 && after > 0.0, "{sizes:?}");
    assert!(after < before + 32.0, "{before} MiB grew to {after} in {round} rounds: {sizes:?}");
}
