//! Guests that ask the host for too much at once.

use std::sync::Arc;

use http::Method;

use super::{Watch, times};
use crate::test_gateway::TestGateway;

const MIB: u64 = 1 << 20;

/// Calls a case of `t-hostile` that must fail by a limit, again and again.
async fn fails_by_a_limit(targets: &[&str], slug: &str, limits: &[&str], setting: &str) {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-hostile").await;
    let watch = Watch::begin(&gateway).await;
    let calls = times(5, 1_000);
    for target in targets {
        for _ in 0..calls {
            let answer = gateway.get(target).await;
            assert_eq!(answer.problem(), (502, slug), "{target}");
            assert!(answer.json()["hint"].as_str().unwrap().contains(setting), "{answer:?}");
        }
    }
    let calls = targets.len() * calls;
    watch.end(&[(slug, calls)]).await;
    let metrics = gateway.anonymous(Method::GET, "/metrics").send().await;
    let hits = |limit: &str| {
        let start = format!("mayfly_limit_hits_total{{limit=\"{limit}\"}} ");
        let count = metrics.text().lines().find_map(|line| line.strip_prefix(&start));
        count.unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(limits.iter().map(|limit| hits(limit)).sum::<usize>(), calls, "{limits:?}");
}

#[tokio::test]
async fn g13_a_header_bomb_is_refused() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-hostile").await;
    let watch = Watch::begin(&gateway).await;
    // WASI 0.2 has no error for it: the call traps.
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

#[tokio::test]
async fn g18_what_is_opened_and_never_closed_has_a_limit() {
    let targets = ["/f/t-hostile/resources", "/f/t-hostile/resources?pollables=1"];
    let setting = "guests.host_resources";
    fails_by_a_limit(&targets, "resource-limit", &["host_resources", "component_handles"], setting)
        .await;
}

#[tokio::test]
async fn g18_copies_of_large_headers_cannot_fill_the_hosts_memory() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-hostile").await;
    let watch = Watch::begin(&gateway).await;
    let answer = gateway.get("/f/t-hostile/resources?copies=1").await;
    assert_eq!(answer.problem(), (502, "header-limit"));
    assert!(watch.grown_bytes() < 16 * MIB, "{}", watch.grown_bytes());
    watch.end(&[("header-limit", 1)]).await;
}

#[tokio::test]
async fn g19_a_list_of_megabytes_is_not_copied() {
    let targets = ["/f/t-hostile/list"];
    fails_by_a_limit(&targets, "hostcall-limit", &["hostcall_bytes"], "guests.hostcall_bytes")
        .await;
}

#[tokio::test]
async fn g20_gigabytes_of_random_bytes_are_not_made() {
    let targets = ["/f/t-hostile/random", "/f/t-hostile/random?bytes=65537"];
    fails_by_a_limit(&targets, "hostcall-limit", &["random_bytes"], "guests.random_bytes").await;
}

#[tokio::test]
async fn g20_wasi_0_3_gets_as_many_random_bytes_as_there_may_be() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-hostile").await;
    gateway.deploy("t-hostile-p3").await;
    let watch = Watch::begin(&gateway).await;
    // The standard lets the host give fewer bytes than were asked for.
    assert_eq!(gateway.get("/f/t-hostile-p3/random").await.plain(), (200, "65536"));
    let most = gateway.get("/f/t-hostile/random?bytes=65536").await;
    assert_eq!(most.plain(), (200, "65536\n"));
    watch.end(&[("ok", 2)]).await;
}
