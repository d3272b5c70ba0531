//! Host calls that take long.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use tokio::time::sleep;

use super::{GuestWatch, times};
use crate::{
    client::{Http1, eventually},
    outbound::{Upstream, UpstreamConnection},
    test_gateway::TestGateway,
};

/// Case G27.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_host_calls_delay_only_the_guests_that_made_them() {
    let stall = Duration::from_secs(times(4, 10) as u64);
    let gateway = Arc::new(TestGateway::with(&["outbound.permit=127.0.0.1"]).await);
    let upstream = Upstream::serving(move |mut served: UpstreamConnection| async move {
        while served.head().await.is_some() {
            sleep(stall).await;
            served.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let (host, ms) = (upstream.host(), stall.as_millis());
    // A server that sends nothing, and the host's own clock.
    let slow = [
        ("t-outbound", format!("/?to={host}"), "1 x 200 2"),
        ("t-outbound-p3", format!("/?to={host}"), "1 x 200 2"),
        ("t-sleep", format!("/?ms={ms}"), "slept"),
        ("t-hostile-p3", format!("/wait?ms={ms}"), &ms.to_string()),
        ("t-hostile-cgi", format!("/sleep?ms={ms}"), "slept"),
    ];
    for (name, ..) in &slow {
        gateway.deploy_with(name, &json!({"outbound": [host], "timeout_ms": 300_000})).await;
    }
    gateway.deploy("hello").await;
    let watch = GuestWatch::begin(&gateway).await;

    let calls = slow.iter().cycle().take(64).map(|(name, target, says)| {
        let call = gateway.call(Method::GET, &format!("/f/{name}{target}")).send();
        let says = (*says).to_owned();
        tokio::spawn(async move { assert_eq!(call.await.text().trim_end(), says) })
    });
    let calls = tokio::spawn(join_all(calls.collect::<Vec<_>>()));
    let most = async || (gateway.metric("mayfly_live_instances").await >= 32.0).then_some(());
    eventually("most of the guests wait", most).await;
    let mut waits = durations_of_others(&gateway, stall / 2).await;
    waits.sort_unstable();
    let (median, most) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    assert!(median < Duration::from_millis(100), "a median of {median:?}");
    // A call that waited for a slow one would take at least this long.
    assert!(most < stall / 2, "a maximum of {most:?}");

    for call in calls.await.unwrap() {
        call.unwrap();
    }
    for (name, ..) in &slow {
        let used = gateway.metric_with("mayfly_cpu_seconds_total", &[("function", name)]).await;
        assert!(used < 1.0, "{name}: waiting took {used} s of CPU time");
    }
    watch.end(&[("ok", 64 + waits.len())]).await;
}

/// Case G27.
#[tokio::test]
async fn no_host_call_keeps_a_thread() {
    let gateway = Arc::new(TestGateway::start().await);
    for name in ["t-hostile", "t-hostile-p3", "t-hostile-cgi"] {
        gateway.deploy_with(name, &json!({"cpu_ms": 5_000})).await;
        gateway.get(&format!("/f/{name}/none")).await;
    }
    for target in [
        "/f/t-hostile-cgi/ends?bytes=60000000",
        "/f/t-hostile-p3/ends?n=60000000",
        "/f/t-hostile/log?lines=200000",
        "/f/t-hostile/random?bytes=65536",
        "/f/t-hostile/list",
        "/f/t-hostile/fields?list=500",
        "/f/t-hostile/kept-appended",
        "/f/t-hostile/kept-listed",
        "/f/t-hostile/kept-requests",
        "/f/t-hostile-p3/kept-fields",
        "/f/t-hostile-p3/random",
    ] {
        // The machine can make one poll seem long, but not each of several.
        let mut long = true;
        for _ in 0..5 {
            let before = long_polls(&gateway).await;
            gateway.get(target).await;
            gateway.metric_becomes("mayfly_live_instances", 0.0).await;
            long = long_polls(&gateway).await > before;
            if !long {
                break;
            }
        }
        assert!(!long, "{target}");
    }
}

/// Invocations of which one poll took more than 25 ms of CPU time.
async fn long_polls(gateway: &TestGateway) -> f64 {
    let name = "mayfly_guest_poll_seconds";
    let all = gateway.metric(&format!("{name}_count")).await;
    all - gateway.metric_with(&format!("{name}_bucket"), &[("le", "0.025")]).await
}

/// The duration of each call of another function during this time.
async fn durations_of_others(gateway: &TestGateway, long: Duration) -> Vec<Duration> {
    let mut connection = Http1::open(gateway.data()).await;
    let (begin, mut waits) = (Instant::now(), Vec::new());
    while begin.elapsed() < long || waits.is_empty() {
        let since = Instant::now();
        assert_eq!(connection.get("/f/hello/").await.status(), 200);
        waits.push(since.elapsed());
    }
    waits
}
