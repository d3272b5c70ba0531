//! Guests that ask the host for too much at once.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::Method;
use serde_json::json;

use super::{GuestWatch, times};
use crate::{client::eventually, test_gateway::TestGateway};

const MIB: u64 = 1 << 20;

/// Repeats calls of `t-hostile` that must fail at a limit. The memory of the process may grow by
/// `grown` bytes meanwhile.
async fn fails_by_a_limit(
    targets: &[&str],
    slug: &str,
    limits: &[&str],
    setting: &str,
    grown: u64,
) {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-hostile").await;
    // Memory that is allocated once is allocated here.
    for target in targets {
        gateway.get(target).await;
    }
    let watch = GuestWatch::begin(&gateway).await;
    let calls = times(5, 1_000);
    for target in targets {
        for _ in 0..calls {
            let answer = gateway.get(target).await;
            assert_eq!(answer.problem(), (502, slug), "{target}");
            assert!(answer.json()["hint"].as_str().unwrap().contains(setting), "{answer:?}");
        }
    }
    let calls = targets.len() * calls;
    assert!(watch.grown_bytes() <= grown, "{}", watch.grown_bytes());
    watch.end(&[(slug, calls)]).await;
    let metrics = gateway.api("/metrics").await;
    let hits = |limit: &str| {
        let start = format!("mayfly_limit_hits_total{{limit=\"{limit}\"}} ");
        let count = metrics.text().lines().find_map(|line| line.strip_prefix(&start));
        count.unwrap().parse::<usize>().unwrap()
    };
    let hits: usize = limits.iter().map(|limit| hits(limit)).sum();
    assert_eq!(hits, calls + targets.len(), "{limits:?}");
}

/// Case G13.
#[tokio::test]
async fn a_header_bomb_is_refused() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-hostile").await;
    let watch = GuestWatch::begin(&gateway).await;
    // WASI 0.2 has no error for this limit: the call traps.
    for target in ["fields?size=0", "fields?size=100", "fields?size=10000", "fields?list=10000"] {
        let answer = gateway.get(&format!("/f/t-hostile/{target}")).await;
        assert_eq!(answer.problem(), (502, "header-limit"), "{target}");
        assert!(answer.json()["hint"].as_str().unwrap().contains("guests.field_bytes"));
    }
    let some = gateway.get("/f/t-hostile/fields?list=500").await;
    assert_eq!(some.plain(), (200, "made"));
    for target in ["fields?size=1&list=100000", "fields?size=1048576"] {
        let answer = gateway.get(&format!("/f/t-hostile/{target}")).await;
        assert_eq!(answer.problem(), (502, "hostcall-limit"), "{target}");
    }
    watch.end(&[("ok", 1), ("header-limit", 4), ("hostcall-limit", 2)]).await;
}

/// Case G13.
#[tokio::test]
async fn ten_thousand_random_operations_on_fields_match_a_model() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy_with("t-hostile", &json!({"cpu_ms": 30_000})).await;
    let watch = GuestWatch::begin(&gateway).await;
    let rounds = times(10, 100);
    for round in 0..rounds {
        let seed = 0x9e37_79b9_u64.wrapping_mul(round as u64 + 1);
        let target = format!("/f/t-hostile/operations?n=1000&seed={seed}");
        assert_eq!(gateway.get(&target).await.plain(), (200, "as the model says\n"), "{target}");
    }
    watch.end(&[("ok", rounds)]).await;
}

/// Case G18.
#[tokio::test]
async fn resources_that_are_never_closed_have_a_limit() {
    let targets = ["/f/t-hostile/resources", "/f/t-hostile/resources?pollables=1"];
    let limits = ["host_resources", "component_handles"];
    // A few hundred bytes for each of 16,384.
    let grown = 16 * MIB;
    fails_by_a_limit(&targets, "resource-limit", &limits, "guests.host_resources", grown).await;
}

/// Case G18.
#[tokio::test]
async fn copies_of_large_headers_cannot_fill_the_hosts_memory() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-hostile").await;
    let watch = GuestWatch::begin(&gateway).await;
    let answer = gateway.get("/f/t-hostile/resources?copies=1").await;
    assert_eq!(answer.problem(), (502, "resource-limit"));
    assert!(watch.grown_bytes() < 32 * MIB, "{}", watch.grown_bytes());
    watch.end(&[("resource-limit", 1)]).await;
}

/// Each way in which a guest of WASI 0.2 can make the host keep data for it, with the largest content.
const KEPT_02: [&str; 13] = [
    "appended",
    "set",
    "listed",
    "small",
    "copied",
    "later",
    "paths",
    "methods",
    "requests",
    "responses",
    "trailers",
    "headers",
    "options",
];
/// The same for WASI 0.3.
const KEPT_03: [&str; 9] =
    ["fields", "copied", "paths", "methods", "requests", "responses", "options", "errors", "calls"];

/// Case G18.
#[tokio::test]
async fn what_the_host_keeps_for_a_guest_is_limited_whatever_it_is() {
    let gateway = Arc::new(TestGateway::start().await);
    let kinds = KEPT_02.map(|kind| ("t-hostile", kind)).into_iter();
    let kinds = kinds.chain(KEPT_03.map(|kind| ("t-hostile-p3", kind)));
    for name in ["t-hostile", "t-hostile-p3"] {
        gateway.deploy_with(name, &json!({"cpu_ms": 30_000})).await;
        gateway.get(&format!("/f/{name}/none")).await;
    }
    let watch = GuestWatch::begin(&gateway).await;
    let mut calls = 0;
    for (name, kind) in kinds {
        // What earlier calls have freed goes back to the system within seconds, not at once.
        let before = gateway.resident_bytes();
        gateway.reset_peak();
        let answer = gateway.get(&format!("/f/{name}/kept-{kind}")).await;
        assert_eq!(answer.problem(), (502, "resource-limit"), "{name} {kind}");
        let grown = gateway.most_resident_bytes().saturating_sub(before);
        assert!(grown < 48 * MIB, "{name} {kind}: {grown}");
        assert!(watch.grown_bytes() < 128 * MIB, "{name} {kind}: {}", watch.grown_bytes());
        calls += 1;
    }
    watch.end(&[("resource-limit", calls)]).await;
    // The log says what to change.
    let said = async || {
        let log = gateway.api("/v1/functions/t-hostile/logs?limit=1000").await;
        log.text().contains("drop fields, requests and bodies").then_some(())
    };
    eventually("the log explains the limit", said).await;
}

/// Case G18.
#[tokio::test]
async fn when_memory_runs_out_those_guests_end_for_which_the_host_keeps_most() {
    const GUESTS: u64 = 12;
    // With a limit of its own, the gateway measures itself and not the machine.
    let mut gateway = TestGateway::with(&["server.memory_bytes=1GiB"]).await;
    gateway.deploy("hello").await;
    gateway.deploy_with("t-hostile", &json!({"cpu_ms": 30_000, "timeout_ms": 300_000})).await;
    gateway.get("/f/t-hostile/kept-appended?n=1").await;
    let used = async || (gateway.metric("mayfly_memory_used_bytes").await > 0.0).then_some(());
    eventually("memory is measured", used).await;
    let room = gateway.metric("mayfly_memory_used_bytes").await as u64 + 64 * MIB;
    gateway.kill();
    // Requests are refused from 95 % of the limit on.
    gateway.start_with(&[&format!("server.memory_bytes={}", room / 95 * 100)]).await;
    let gateway = Arc::new(gateway);
    let hold = "/f/t-hostile/kept-appended?n=200&ms=100000";
    let guests = (0..GUESTS).map(|_| tokio::spawn(gateway.call(Method::GET, hold).send()));
    let mut guests: FuturesUnordered<_> = guests.collect();
    // They wait for much longer than this test may take.
    let ended = loop {
        let answer = guests.next().await.unwrap().unwrap();
        match answer.problem() {
            (503, "node-memory") => break answer,
            // It came when memory was used up already.
            (503, "memory-pressure") => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(ended.header("retry-after").is_some());
    let served = async || (gateway.get("/f/hello/").await.status() == 200).then_some(());
    eventually("others are served again", served).await;
}

/// Case G19.
#[tokio::test]
async fn a_list_of_megabytes_is_not_copied() {
    let (targets, limits) = (["/f/t-hostile/list"], ["hostcall_bytes"]);
    fails_by_a_limit(&targets, "hostcall-limit", &limits, "guests.hostcall_bytes", 2 * MIB).await;
}

/// Case G20.
#[tokio::test]
async fn gigabytes_of_random_bytes_are_not_generated() {
    let targets = ["/f/t-hostile/random", "/f/t-hostile/random?bytes=65537"];
    let limits = ["random_bytes"];
    fails_by_a_limit(&targets, "hostcall-limit", &limits, "guests.random_bytes", 2 * MIB).await;
}

/// Case G20.
#[tokio::test]
async fn wasi_0_3_gets_random_bytes_up_to_the_limit() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-hostile").await;
    gateway.deploy("t-hostile-p3").await;
    let watch = GuestWatch::begin(&gateway).await;
    // The standard allows the host to return fewer bytes than requested.
    assert_eq!(gateway.get("/f/t-hostile-p3/random").await.plain(), (200, "65536"));
    let most = gateway.get("/f/t-hostile/random?bytes=65536").await;
    assert_eq!(most.plain(), (200, "65536\n"));
    watch.end(&[("ok", 2)]).await;
}
