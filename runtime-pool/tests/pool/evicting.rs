//! How a function leaves memory.

use std::{sync::Arc, time::Duration};

use runtime_pool::{FunctionKey, FunctionSpec, State, Tier};

use crate::{
    program::{X_BYTES, another_program, open_steps, program},
    support::{TestPool, answers, body, key, spawn, until},
};

/// A pool with a resident function of this idle time.
async fn with_idle_time(idle: Duration) -> (TestPool, FunctionSpec) {
    let test = TestPool::new();
    let mut spec = test.spec(&program());
    spec.limits.idle = idle;
    answers(&test.load(key(1), &spec).await.0).await;
    (test, spec)
}

#[tokio::test]
async fn a_function_that_is_not_called_for_its_idle_time_leaves() {
    let (test, spec) = with_idle_time(Duration::from_millis(50)).await;
    let gone = || test.gauge("mayfly_resident_functions") == 0.0;
    test.tidy_until("the function leaves", gone).await;
    assert_eq!(test.pool.state(&key(1)), State::Cold);
    assert_eq!(test.labelled("mayfly_evictions_total", "idle"), 1.0);
    assert_eq!(test.gauge("mayfly_resident_code_bytes"), 0.0);
    assert_eq!(test.tier(key(1), &spec).await, Tier::Cold);
}

#[tokio::test]
async fn a_function_that_may_be_idle_for_longer_stays() {
    let (test, spec) = with_idle_time(Duration::from_secs(600)).await;
    let mut other = spec.clone();
    other.limits.idle = Duration::from_millis(1);
    test.load(key(2), &other).await;
    let gone = || test.pool.state(&key(2)) == State::Cold;
    test.tidy_until("the other function leaves", gone).await;
    assert_eq!(test.pool.state(&key(1)), State::Loaded);
}

#[tokio::test]
async fn the_least_recently_called_functions_leave_when_resident_bytes_are_used_up() {
    let (test, spec) = with_idle_time(Duration::from_secs(600)).await;
    let code_bytes = test.gauge("mayfly_resident_code_bytes") as u64;
    drop((test, spec));

    // Besides its code, a function counts as 45 KiB: there is room for two of them, not for three.
    let test = TestPool::with(|config| config.resident_bytes = 2 * code_bytes + (100 << 10));
    let load = async |number: u8| {
        test.load(key(number.into()), &test.spec(&another_program(number))).await;
        test.pool.tidy().await;
    };
    for number in [1, 2, 1, 3] {
        load(number).await;
    }
    let evicted = || test.labelled("mayfly_evictions_total", "capacity") == 1.0;
    test.tidy_until("a function is evicted", evicted).await;
    let states = [1, 2, 3].map(|number| test.pool.state(&key(number)));
    assert_eq!(states, [State::Loaded, State::Cold, State::Loaded]);
}

#[tokio::test]
async fn evicting_a_revision_leaves_the_others_of_its_function() {
    let test = TestPool::new();
    let spec = test.spec(&program());
    let second = FunctionKey { revision: 2, ..key(1) };
    test.load(key(1), &spec).await;
    let (function, _) = test.load(second, &spec).await;
    test.pool.evict(&key(1)).await;
    assert_eq!(test.pool.state(&key(1)), State::Cold);
    assert_eq!(test.pool.state(&second), State::Loaded);
    assert!(Arc::ptr_eq(&function, &test.load(second, &spec).await.0));
    assert_eq!(test.labelled("mayfly_evictions_total", "removed"), 1.0);
}

#[tokio::test]
async fn a_call_in_flight_survives_the_eviction_of_its_function() {
    let test = TestPool::new();
    let spec = test.spec(&program());
    let (function, _) = test.load(key(1), &spec).await;
    let (sender, steps) = open_steps();
    let call = spawn(&function, steps);
    until("the call runs", || function.running_invocations() == 1).await;

    drop(function);
    test.pool.evict(&key(1)).await;
    test.pool.forget_artifact(spec.digest).await;
    assert_eq!(test.pool.state(&key(1)), State::Cold);
    // Loaded again, it is another function with slots of its own.
    let (again, start) = test.load(key(1), &spec).await;
    assert_eq!((start.tier, again.running_invocations()), (Tier::Frozen, 0));

    sender.send("hx").unwrap();
    drop(sender);
    let (response, _) = call.await.unwrap().unwrap();
    assert_eq!(body(response).await.unwrap().len(), X_BYTES);
    let one_left = || test.gauge("mayfly_resident_functions") == 1.0;
    test.tidy_until("the evicted function is dropped with its last call", one_left).await;
    test.all_is_given_back().await;
}
