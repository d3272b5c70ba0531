//! Calls while manifests are applied: each sees what was before or what comes after, and none fails.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use serde_json::{Value, json};

use super::digest;
use crate::{guests::guest, test_gateway::TestGateway};

/// The manifest of a version, in which everything behind the routes has another name than in the one before.
fn version(digest: &str, number: u32) -> Value {
    let (function, flow, channel) =
        (format!("f{number}"), format!("w{number}"), format!("c{number}"));
    let settings = json!({"environment": {"VERSION": number.to_string()}});
    json!({
        "project": "shop", "prune": true,
        "functions": {
            function.clone(): {"artifact": digest, "settings": settings},
            "stays": {"artifact": digest, "settings": settings,
                "channels": {channel.clone(): {"range": "*"}}, "version": format!("1.0.{number}")},
        },
        "flows": {flow.clone(): {"steps": [{"function": "stays"}]}},
        "routes": {
            "plain": {"path": "/plain", "function": function},
            "channel": {"path": "/channel", "function": "stays", "channel": channel},
            "flow": {"path": "/flow", "flow": flow},
        },
    })
}

/// Case E16.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_everything_behind_a_route_is_renamed() {
    let gateway = Arc::new(TestGateway::with(&["quotas.changes_per_minute=1000"]).await);
    let digest = digest(&guest("t-env"));
    gateway.put_artifact(guest("t-env")).await;
    gateway.applied(&version(&digest, 0)).await;
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = ["/plain", "/channel", "/plain", "/channel"]
        .into_iter()
        .map(|target| {
            let (gateway, over) = (Arc::clone(&gateway), Arc::clone(&over));
            tokio::spawn(async move {
                let (mut last, mut seen) = (0, 0);
                while !over.load(Relaxed) {
                    let answer = gateway.get(target).await;
                    assert_eq!(answer.status(), 200, "{target}: {answer:?}");
                    let version = answer.text().trim().strip_prefix("VERSION=");
                    let version: u32 =
                        version.unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap();
                    assert!(version >= last, "{target}: {version} after {last}");
                    (last, seen) = (version, seen + 1);
                }
                seen
            })
        })
        .collect();
    for number in 1..=50 {
        let steps = gateway.applied(&version(&digest, number)).await;
        assert_eq!(steps.iter().filter(|step| step.starts_with("delete")).count(), 3, "{steps:?}");
        // What is acknowledged is seen at once.
        for target in ["/plain", "/channel", "/flow"] {
            let answer = gateway.get(target).await;
            assert_eq!(answer.plain(), (200, &*format!("VERSION={number}\n")), "{target}");
        }
    }
    over.store(true, Relaxed);
    for caller in callers {
        let seen = caller.await.unwrap();
        assert!(seen > 50, "{seen}");
    }
}
