//! Isolation: an invocation sees nothing of earlier ones and nothing of the host's.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use serde_json::json;

use crate::{client::Http1, hostile_guests::times, test_gateway::TestGateway};

const CONCURRENCY: usize = 64;

/// Calls a counter `calls` times over 64 connections. Each call must be the first of its instance.
async fn every_call_is_the_first(gateway: &TestGateway, name: &str, calls: u32) {
    let left = Arc::new(AtomicU32::new(calls));
    let callers: Vec<_> = (0..CONCURRENCY)
        .map(|_| {
            let (left, address) = (Arc::clone(&left), gateway.data());
            let target = format!("/f/{name}/");
            tokio::spawn(async move {
                let mut connection = Http1::open(address).await;
                while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                    assert_eq!(connection.get(&target).await.plain(), (200, "1\n"));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let ok = format!(r#"mayfly_requests_total{{function="{name}",outcome="ok","#);
    let metrics = gateway.api("/metrics").await;
    let counted: u32 = metrics
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix(&ok)?.rsplit(' ').next()?.parse::<u32>().ok())
        .sum();
    assert_eq!(counted, calls);
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
}

/// Case T01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_state_leaks_through_ten_thousand_requests() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-counter").await;
    every_call_is_the_first(&gateway, "t-counter", 10_000).await;
}

/// Case T01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_state_leaks_in_programs_and_in_async_components() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-counter-cgi").await;
    gateway.deploy("t-counter-p3").await;
    every_call_is_the_first(&gateway, "t-counter-cgi", 2_000).await;
    every_call_is_the_first(&gateway, "t-counter-p3", 2_000).await;
}

#[tokio::test]
async fn a_guest_sees_only_its_own_environment() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-env").await;
    assert_eq!(gateway.get("/f/t-env/").await.plain(), (200, ""));
    for name in ["first", "second"] {
        let settings = json!({"environment": {"NAME": name}}).to_string();
        let put = gateway.put(name, crate::guests::guest("t-env"));
        assert_eq!(put.header("mayfly-settings", &settings).send().await.status(), 201);
    }
    for name in ["first", "second", "first"] {
        let answer = gateway.get(&format!("/f/{name}/")).await;
        assert_eq!(answer.plain(), (200, format!("NAME={name}\n").as_str()));
    }
}

/// Pseudo-random bytes that occur nowhere by chance, percent-encoded and changed, as `t-hostile`
/// expects them.
fn secret(of: u64) -> String {
    (0..16_u64)
        .map(|n| format!("%{:02x}", (of * 16 + n).wrapping_mul(0x9e37_79b9) >> 9 & 0xff))
        .collect()
}

/// Calls the case `scan` of a function.
async fn scan(connection: &mut Http1, name: &str, secret: &str, grow_mib: u32) -> (u64, u64, u64) {
    let target = format!("/f/{name}/scan?grow={grow_mib}&secret={secret}");
    let answer = connection.get(&target).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let numbers: Vec<u64> =
        answer.text().split_whitespace().map(|number| number.parse().unwrap()).collect();
    (numbers[0], numbers[1], numbers[2])
}

/// Case T01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_left_in_memory_is_never_found() {
    let gateway = TestGateway::with(&["pool.instances=4"]).await;
    // Two functions that share the slots of the pool.
    for name in ["first", "second"] {
        let put = gateway.put(name, crate::guests::guest("t-hostile"));
        assert_eq!(put.send().await.status(), 201);
    }
    // A scan within the same instance finds the secret: the search works.
    let settings = json!({"isolation": {"mode": "reuse"}}).to_string();
    let put = gateway.put("reused", crate::guests::guest("t-hostile"));
    assert_eq!(put.header("mayfly-settings", &settings).send().await.status(), 201);
    let mut connection = Http1::open(gateway.data()).await;
    assert_eq!(scan(&mut connection, "reused", &secret(0), 0).await.1, 0);
    let (seen, found, _) = scan(&mut connection, "reused", &secret(0), 0).await;
    assert!(seen == 2 && found > 0, "{seen} {found}");

    let calls = times(1_000, 100_000) / 2;
    let callers = [("first", 1), ("second", 2)].map(|(name, own)| {
        let address = gateway.data();
        tokio::spawn(async move {
            let mut connection = Http1::open(address).await;
            for _ in 0..calls {
                // In turn, each function searches for its own secret and for the other one's.
                for of in [own, 3 - own] {
                    assert_eq!(scan(&mut connection, name, &secret(of), 0).await, (1, 0, 0));
                }
            }
        })
    });
    for caller in callers {
        caller.await.unwrap();
    }
}

/// Case T02.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reused_instance_slot_holds_nothing_of_its_last_guest() {
    let gateway = TestGateway::with(&["pool.instances=2"]).await;
    for (name, memory_bytes) in [("small", 8 << 20), ("large", 32 << 20)] {
        let settings = json!({"memory_bytes": memory_bytes, "cpu_ms": 30_000}).to_string();
        let put = gateway.put(name, crate::guests::guest("t-hostile"));
        assert_eq!(put.header("mayfly-settings", &settings).send().await.status(), 201);
    }
    let mut connection = Http1::open(gateway.data()).await;
    for _ in 0..times(60, 10_000) / 2 {
        // Each searches for the patterns that both have written all over their memories. Grown
        // memory must be zero.
        for (name, grow) in [("small", 4), ("large", 12)] {
            assert_eq!(scan(&mut connection, name, &secret(7), grow).await, (1, 0, 0), "{name}");
        }
    }
}

/// Case T06.
#[tokio::test]
async fn failure_reports_hold_no_secret() {
    const SECRET: &str = "correct-horse-battery-staple";
    let gateway = TestGateway::start().await;
    let settings = json!({"environment": {"PASSWORD": SECRET}});
    for (name, target) in
        [("t-hostile", "/f/t-hostile/panic"), ("t-hostile-cgi", "/f/t-hostile-cgi/panic")]
    {
        gateway.deploy_with(name, &settings).await;
        let failed = gateway.get(target).await;
        assert_eq!(failed.problem(), (502, "function-failed"));
        assert!(!format!("{failed:?}").contains(SECRET), "{failed:?}");
        // The guest's own message is for its owner: no other function's log contains it.
        gateway.log_lines(name, 2).await;
    }
    gateway.deploy("c-hello").await;
    let gateway_says = [
        gateway.api("/metrics").await.text().to_owned(),
        gateway.api("/v1/functions/c-hello/logs").await.text().to_owned(),
        gateway.api("/v1/limits").await.text().to_owned(),
        gateway.log(),
        gateway.stdout(),
    ];
    for said in gateway_says {
        assert!(!said.contains(SECRET), "{said}");
    }
    let system = gateway.api("/v1/functions/t-hostile/logs").await;
    let lines = system.json()["lines"].as_array().unwrap();
    let platform_lines = lines.iter().filter(|line| line["stream"] == "system");
    assert!(platform_lines.clone().count() > 0);
    assert!(platform_lines.map(ToString::to_string).all(|line| !line.contains(SECRET)));
}
