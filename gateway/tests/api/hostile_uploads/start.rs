//! Guests whose start fails or loops.

use super::Canary;
use crate::test_gateway::TestGateway;

/// Case U12.
#[tokio::test]
async fn a_start_function_that_loops_or_traps_is_refused_at_the_deploy_and_delays_no_caller() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let canary = Canary::start(&gateway);
    for (start, says) in [
        ("(loop (br 0))", "CPU time of 1s"),
        ("unreachable", "unreachable"),
        ("(call $s)", "call stack exhausted"),
        // Each fill writes as many bytes as the machine moves in a millisecond, without a check in
        // between.
        (
            "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x3000000)) (br 0))",
            "CPU time",
        ),
    ] {
        let text = format!(
            r#"(module (memory 1024) (func $s {start}) (start $s) (func (export "_start")))"#
        );
        let refused = gateway.put("start", wat::parse_str(text).unwrap()).send().await;
        assert_eq!(refused.problem(), (422, "start-failed"), "{start}: {refused:?}");
        assert!(refused.detail().contains(says), "{start}: {refused:?}");
    }
    canary.ends_unharmed().await;
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    assert_eq!(gateway.show("start").await.status(), 404);
}

/// Case U10.
#[tokio::test]
async fn a_module_that_does_not_fit_into_an_instance_slot_is_refused_at_the_deploy() {
    let gateway = TestGateway::with(&["ceilings.memory_bytes=128MiB"]).await;
    for (has, setting) in [
        // 160 MiB at once.
        ("(memory 2560)", "ceilings.memory_bytes"),
        ("(table 1000000 funcref)", "guests.table_elements"),
    ] {
        let text = format!(r#"(module {has} (func (export "_start")))"#);
        let refused = gateway.put("big", wat::parse_str(text).unwrap()).send().await;
        assert_eq!(refused.problem(), (422, "artifact-limit"), "{has}: {refused:?}");
        assert!(refused.detail().contains(setting), "{has}: {refused:?}");
    }
    assert_eq!(gateway.show("big").await.status(), 404);
}
