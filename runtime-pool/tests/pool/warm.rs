//! Instances that are made before they are needed, and those that are reused.

use std::{sync::Arc, time::Duration};

use runtime_pool::{Function, Isolation, Tier};

use crate::{
    program::program,
    support::{TestPool, answer, answers, guest, key, run, set_instances, until},
};

/// A pool with a function of this isolation.
async fn with_guest(name: &str, isolation: Isolation) -> (TestPool, Arc<Function>) {
    let test = TestPool::new();
    let mut spec = test.spec(&guest(name));
    spec.isolation = isolation;
    let (function, _) = test.load(key(1), &spec).await;
    (test, function)
}

async fn keep_warm(function: &Arc<Function>, instances: usize) {
    function.keep_warm(instances);
    until("instances are warm", || function.warm_instances() == instances).await;
}

fn reuse(max_uses: u32) -> Isolation {
    Isolation::Reuse { max_uses, max_concurrent: 1, idle: Duration::from_secs(600) }
}

#[tokio::test]
async fn as_many_instances_as_asked_for_are_warm_and_each_is_used_once() {
    let (test, function) = with_guest("t-counter", Isolation::Request).await;
    keep_warm(&function, 3).await;
    assert_eq!(test.gauge("mayfly_warm_instances"), 3.0);
    for left in [2, 1, 0] {
        // A warm instance counts its first request, too.
        assert_eq!(answer(&function, "/").await, "1\n");
        assert_eq!(function.warm_instances(), left);
    }
    assert_eq!(answer(&function, "/").await, "1\n");
    test.pool.tidy().await;
    until("others are made", || function.warm_instances() == 3).await;
}

#[tokio::test]
async fn a_call_that_finds_a_warm_instance_says_so() {
    let test = TestPool::new();
    let (function, _) = test.load(key(1), &test.spec(&program())).await;
    keep_warm(&function, 1).await;
    assert_eq!(run(&function, "h").await.unwrap().1.tier, Tier::Warm);
    assert_eq!(run(&function, "h").await.unwrap().1.tier, Tier::Loaded);
}

#[tokio::test]
async fn released_warm_instances_give_their_memory_back_and_calls_go_on() {
    let test = TestPool::new();
    let (function, _) = test.load(key(1), &test.spec(&program())).await;
    keep_warm(&function, 4).await;
    assert!(test.gauge("mayfly_instance_memory_bytes") > 0.0);
    test.pool.release_warm();
    assert_eq!(function.warm_instances(), 0);
    assert_eq!(test.gauge("mayfly_warm_instances"), 0.0);
    test.all_is_given_back().await;
    answers(&function).await;
}

#[tokio::test]
async fn warm_instances_leave_before_a_call_is_refused_an_instance() {
    let test = TestPool::with(|config| set_instances(config, 2));
    let (idle, _) = test.load(key(1), &test.spec(&program())).await;
    keep_warm(&idle, 2).await;
    let (busy, _) = test.load(key(2), &test.spec(&program())).await;
    answers(&busy).await;
    assert_eq!(idle.warm_instances(), 0);
}

#[tokio::test]
async fn warm_instances_leave_before_a_call_is_refused_memory() {
    // The program has 64 KiB.
    let test = TestPool::with(|config| config.memory_bytes = 128 << 10);
    let (idle, _) = test.load(key(1), &test.spec(&program())).await;
    keep_warm(&idle, 2).await;
    let (busy, _) = test.load(key(2), &test.spec(&program())).await;
    answers(&busy).await;
    assert_eq!(idle.warm_instances(), 0);
}

#[tokio::test]
async fn all_functions_share_the_budget_of_warm_instances() {
    let test = TestPool::with(|config| config.warm.instances = 3);
    let mut functions = Vec::new();
    for number in 0..3 {
        functions.push(test.load(key(number), &test.spec(&program())).await.0);
    }
    keep_warm(&functions[0], 2).await;
    functions[1].keep_warm(2);
    functions[2].keep_warm(2);
    until("the budget is used", || test.gauge("mayfly_warm_instances") == 3.0).await;
    test.pool.tidy().await;
    tokio::task::yield_now().await;
    let warm: usize = functions.iter().map(|function| function.warm_instances()).sum();
    assert_eq!((warm, functions[0].warm_instances()), (3, 2));
}

#[tokio::test]
async fn warm_instances_are_dropped_with_their_function() {
    let test = TestPool::new();
    let (function, _) = test.load(key(1), &test.spec(&program())).await;
    keep_warm(&function, 2).await;
    drop(function);
    test.pool.evict(&key(1)).await;
    let gone = || test.gauge("mayfly_resident_functions") == 0.0;
    test.tidy_until("the function is dropped", gone).await;
    assert_eq!(test.gauge("mayfly_warm_instances"), 0.0);
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_reused_instance_keeps_its_memory_and_is_dropped_after_its_last_use() {
    let (test, function) = with_guest("t-counter", reuse(3)).await;
    for expected in ["1\n", "2\n", "3\n", "1\n"] {
        assert_eq!(answer(&function, "/").await, expected);
    }
    assert_eq!(function.warm_instances(), 1);
    test.pool.release_warm();
    assert_eq!(answer(&function, "/").await, "1\n");
}

#[tokio::test]
async fn a_reused_instance_that_is_not_called_for_its_idle_time_leaves() {
    let idle = Duration::from_millis(20);
    let isolation = Isolation::Reuse { max_uses: 100, max_concurrent: 1, idle };
    let (test, function) = with_guest("t-counter", isolation).await;
    assert_eq!(answer(&function, "/").await, "1\n");
    assert_eq!(function.warm_instances(), 1);
    test.tidy_until("the instance leaves", || function.warm_instances() == 0).await;
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_reused_instance_that_failed_is_dropped() {
    let (test, function) = with_guest("t-trap", reuse(100)).await;
    assert_eq!(answer(&function, "/").await, "ok\n");
    assert_eq!(function.warm_instances(), 1);
    let request = crate::support::invoke(&function, "/trap", runtime_pool::RequestBody::Empty);
    request.await.unwrap_err();
    assert_eq!(function.warm_instances(), 0);
    test.all_is_given_back().await;
    assert_eq!(answer(&function, "/").await, "ok\n");
}
