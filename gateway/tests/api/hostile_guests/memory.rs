//! Guests that want more memory or larger tables than allowed.

use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use super::{GuestWatch, times};
use crate::test_gateway::TestGateway;

const MIB: u64 = 1 << 20;

/// Case G03.
#[tokio::test]
async fn memory_grows_to_its_limit_and_no_further() {
    // With the default, slots would keep more memory than the watch allows.
    let gateway = Arc::new(TestGateway::with(&["pool.keep_bytes=1MiB"]).await);
    let targets = ["/f/t-hostile/hoard", "/f/t-hostile-p3/hoard", "/f/t-hostile-cgi/hoard"];
    for name in ["t-hostile", "t-hostile-p3", "t-hostile-cgi"] {
        gateway.deploy_with(name, &json!({"cpu_ms": 30_000})).await;
    }
    let watch = GuestWatch::begin(&gateway).await;
    for target in targets {
        for _ in 0..times(2, 100) {
            let answer = gateway.get(target).await;
            assert_eq!(answer.problem(), (502, "memory-limit"), "{target}");
            assert!(answer.json()["hint"].as_str().unwrap().contains("memory_bytes"));
        }
    }
    let grown = watch.grown_bytes();
    assert!(grown > 64 * MIB, "too little memory was used: {grown}");
    // One guest at a time. Slots keep a little memory between guests.
    assert!(grown < (128 + 16) * MIB, "{grown}");
    watch.end(&[("memory-limit", 3 * times(2, 100))]).await;
}

/// Case G04.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_hoarders_share_the_nodes_memory() {
    const BUDGET: u64 = 1 << 30;
    let budget = format!("pool.memory_bytes={BUDGET}");
    // A hundred slots keep almost nothing, so that all of the memory is returned.
    let settings = [&*budget, "pool.keep_bytes=64KiB", "limits.timeout_ms=300000"];
    let gateway = Arc::new(TestGateway::with(&settings).await);
    let settings = json!({"concurrency": 100, "cpu_ms": 30_000});
    gateway.deploy_with("t-hostile", &settings).await;
    let watch = GuestWatch::begin(&gateway).await;
    let hoards = (0..100).map(|_| {
        let call = gateway.call(Method::GET, "/f/t-hostile/hoard").send();
        tokio::spawn(call)
    });
    let (mut full, mut own) = (0, 0);
    for answer in join_all(hoards.collect::<Vec<_>>()).await {
        let answer = answer.unwrap();
        match answer.problem() {
            (503, "node-memory") => {
                assert!(answer.header("retry-after").is_some());
                assert!(answer.json()["hint"].as_str().unwrap().contains("pool.memory_bytes"));
                full += 1;
            }
            (502, "memory-limit") => own += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(full > 0, "all hundred guests fitted into the memory of eight");
    let grown = watch.grown_bytes();
    assert!(grown < BUDGET + 32 * MIB, "{grown}");
    watch.end(&[("node-memory", full), ("memory-limit", own)]).await;
}

/// A program with `body` as its `_start`.
fn program(head: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            {head}
            (memory (export "memory") 1)
            (data (i32.const 16) "Content-Type: text/plain\n\nrefused")
            (data (i32.const 0) "\10\00\00\00\21\00\00\00")
            (func (export "_start") {body}))"#
    );
    wat::parse_str(text).unwrap()
}

const ANSWER: &str = "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";

/// Case G05.
#[tokio::test]
async fn tables_grow_to_their_limit_and_no_further() {
    let gateway = Arc::new(TestGateway::start().await);
    let grows = |elements: u32, to: i32| {
        format!(
            "(if (i32.ne (table.grow $t (ref.null func) (i32.const {elements})) (i32.const {to}))
                (then unreachable)) {ANSWER}"
        )
    };
    let table = "(table $t 0 funcref)";
    for (name, elements, to) in [("table-most", 20_000, 0), ("table-more", 10_000_000, -1)] {
        let wasm = program(table, &grows(elements, to));
        assert_eq!(gateway.put(name, wasm).send().await.status(), 201);
    }
    let watch = GuestWatch::begin(&gateway).await;
    for name in ["table-most", "table-more"] {
        assert_eq!(gateway.get(&format!("/f/{name}/")).await.plain(), (200, "refused"), "{name}");
    }
    watch.end(&[("ok", 2)]).await;
    let metrics = gateway.api("/metrics").await;
    assert!(metrics.text().contains(r#"mayfly_limit_hits_total{limit="table_elements"} 1"#));

    // A module with a larger initial table is refused at the deploy.
    let large = program("(table $t 20001 funcref)", ANSWER);
    let refused = gateway.put("table-large", large).send().await;
    assert_eq!(refused.status(), 422, "{refused:?}");
}

/// Case G06.
#[tokio::test]
async fn endless_recursion_is_reported_as_a_stack_overflow() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-recurse").await;
    let program = program("(func $f (call $f) (call $f))", "(call $f)");
    assert_eq!(gateway.put("recurse", program).send().await.status(), 201);
    let watch = GuestWatch::begin(&gateway).await;
    let calls = times(50, 1_000);
    for _ in 0..calls {
        for target in ["/f/t-recurse/", "/f/recurse/"] {
            let answer = gateway.get(target).await;
            assert_eq!(answer.problem(), (502, "stack-overflow"), "{target}");
            assert!(answer.json()["hint"].as_str().unwrap().contains("guests.stack_bytes"));
        }
    }
    watch.end(&[("stack-overflow", 2 * calls)]).await;
}
