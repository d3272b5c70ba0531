//! The cost of a channel on the hot path: CPU time that the gateway spends on a warm request, over HTTP.
//!
//! `functions/build c-hello && cargo build --release --workspace --bins && cargo bench --workspace --bench
//! channel_weights`
//!
//! - `channel/none`: the function by its plain address, without a channel.
//! - `channel/default`: the same where two revisions of equal code share the requests of `default`.
//! - `channel/set`: by the address of a channel that its owner has set.
//! - `channel/weights`: the same where two revisions share its requests.
//! - `channel/sticky`: the same, and a header field decides.
//!
//! The figures are CPU time of all threads of the gateway, not the time until the answer. They are measured
//! one after the other: compare several runs.

#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

use std::{fs, time::Duration};

use benches::{
    client::Client,
    gateway::{Gateway, GatewayOptions},
    guest::{self, Guest},
};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};

/// CPU time of all threads of a process.
fn cpu_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let ns = tasks.filter_map(|task| {
        // A thread that has just ended has no file.
        let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(ns.sum())
}

fn set_channel(gateway: &Gateway, function: &str, channel: &str, to: &Value) {
    let authorization = gateway.authorization().unwrap();
    let target = format!("/v1/functions/{function}/channels/{channel}");
    let mut client = Client::connect(gateway.control).unwrap();
    let answer = client.send("PUT", &target, &authorization, to.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn bench(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let options = GatewayOptions { mayfly: None, settings: Vec::new(), scratch: None, dist: None };
    let gateway = Gateway::start(&options, &dir.path().join("data")).unwrap();
    let guest = Guest::read(&guest::dist(), "c-hello").unwrap();
    for (name, cpu_ms) in [("hello", 1_000), ("hello", 1_001), ("share", 1_000), ("share", 1_001)] {
        gateway.deploy(name, &guest.wasm, &json!({ "cpu_ms": cpu_ms })).unwrap();
    }
    let weights = json!([{"revision": 1, "percent": 50}]);
    set_channel(&gateway, "hello", "set", &json!({"revision": 2}));
    let shared = json!({"revision": 2, "weights": weights});
    set_channel(&gateway, "hello", "weights", &shared);
    set_channel(&gateway, "share", "default", &shared);
    let sticky = json!({"revision": 2, "weights": weights, "sticky": "header:x-user"});
    set_channel(&gateway, "hello", "sticky", &sticky);
    let mut group = criterion.benchmark_group("channel");
    for (name, path) in [
        ("none", "/f/hello/"),
        ("default", "/f/share/"),
        ("set", "/f/hello@set/"),
        ("weights", "/f/hello@weights/"),
        ("sticky", "/f/hello@sticky/"),
    ] {
        let mut client = Client::connect(gateway.data).unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let before = cpu_time(gateway.pid());
                for _ in 0..iterations {
                    let answer = client.send("GET", path, "x-user: someone\r\n", b"").unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
                cpu_time(gateway.pid()).saturating_sub(before)
            });
        });
    }
    group.finish();
    gateway.stop().unwrap();
}

criterion_group!(benches, bench);
criterion_main!(benches);
