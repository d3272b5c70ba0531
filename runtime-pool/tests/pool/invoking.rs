//! Calls and their limits.

use std::{sync::Arc, time::Duration};

use runtime_pool::{BodyError, Function, InvokeError, Limit, Limits, LogStream, Phase, Tier};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    program::{X_BYTES, open_steps, program},
    support::{
        TestPool, answers, body, invoke_of_a_caller_with, key, run, set_instances, spawn, until,
    },
};

/// The program, held to these limits.
async fn with_limits(test: &TestPool, change: impl FnOnce(&mut Limits)) -> Arc<Function> {
    let mut spec = test.spec(&program());
    change(&mut spec.limits);
    test.load(key(1), &spec).await.0
}

/// Starts a call whose guest runs until the sender is dropped.
async fn occupy(function: &Arc<Function>) -> UnboundedSender<&'static str> {
    let running = function.running_invocations();
    let (sender, steps) = open_steps();
    // The task ends with the request's body.
    drop(spawn(function, steps));
    until("the call runs", || function.running_invocations() > running).await;
    sender
}

fn limit_hits(test: &TestPool, limit: Limit) -> f64 {
    test.labelled("mayfly_limit_hits_total", limit.as_str())
}

#[tokio::test]
async fn a_trap_fails_its_call_and_the_next_call_is_clean() {
    let mut test = TestPool::new();
    let function = with_limits(&test, |_| {}).await;
    let failed = run(&function, "t").await.unwrap_err();
    let InvokeError::Failed { detail, limit: None } = &failed else { panic!("{failed:?}") };
    assert!(detail.contains("unreachable"), "{detail}");
    let line = test.logs.recv().await.unwrap();
    assert_eq!((line.function, line.stream), (key(1), LogStream::System));
    answers(&function).await;
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_trap_after_the_head_breaks_the_body_off_and_the_next_call_is_clean() {
    let test = TestPool::new();
    let function = with_limits(&test, |_| {}).await;
    let steps = format!("h{}t", "x".repeat(200));
    let (response, _) = run(&function, &steps).await.unwrap();
    let broken = body(response).await.unwrap_err();
    assert!(matches!(broken, BodyError::Function), "{broken:?}");
    assert_eq!(test.counter("mayfly_responses_aborted_total"), 1.0);
    answers(&function).await;
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_guest_that_returns_without_a_head_gives_no_response() {
    let test = TestPool::new();
    let function = with_limits(&test, |_| {}).await;
    let failed = run(&function, "").await.unwrap_err();
    assert!(matches!(failed, InvokeError::NoResponse(_)), "{failed:?}");
}

#[tokio::test]
async fn a_loop_ends_at_its_cpu_limit() {
    let test = TestPool::new();
    let limit = Duration::from_millis(50);
    let function = with_limits(&test, |limits| limits.cpu = limit).await;
    let failed = run(&function, "l").await.unwrap_err();
    assert!(matches!(failed, InvokeError::Cpu(at) if at == limit), "{failed:?}");
    assert_eq!(limit_hits(&test, Limit::Cpu), 1.0);
    let used = test.counter("mayfly_cpu_seconds_total");
    assert!((0.04..0.5).contains(&used), "{used} s");
    answers(&function).await;
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_guest_that_waits_too_long_ends_at_its_timeout() {
    let test = TestPool::new();
    let limit = Duration::from_millis(200);
    let function = with_limits(&test, |limits| limits.timeout = limit).await;
    let (_sender, steps) = open_steps();
    let failed = spawn(&function, steps).await.unwrap().unwrap_err();
    assert!(matches!(failed, InvokeError::Timeout(at) if at == limit), "{failed:?}");
    assert_eq!(limit_hits(&test, Limit::Timeout), 1.0);
    answers(&function).await;
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_response_that_is_not_complete_at_the_timeout_is_broken_off() {
    let test = TestPool::new();
    let function = with_limits(&test, |limits| limits.timeout = Duration::from_millis(200)).await;
    let (sender, steps) = open_steps();
    sender.send("hx").unwrap();
    let (response, _) = spawn(&function, steps).await.unwrap().unwrap();
    let broken = body(response).await.unwrap_err();
    assert!(matches!(broken, BodyError::Function), "{broken:?}");
    assert_eq!(limit_hits(&test, Limit::Timeout), 1.0);
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_guest_that_is_refused_memory_fails_with_that_limit() {
    let test = TestPool::new();
    let function = with_limits(&test, |limits| limits.memory_bytes = 2 << 20).await;
    run(&function, "gh").await.unwrap();
    let failed = run(&function, "ggh").await.unwrap_err();
    let limit = Some(Limit::Memory);
    assert!(matches!(&failed, InvokeError::Failed { limit: l, .. } if *l == limit), "{failed:?}");
    assert_eq!(limit_hits(&test, Limit::Memory), 1.0);
    test.all_is_given_back().await;
}

#[tokio::test]
async fn guests_share_the_memory_of_the_node() {
    let test = TestPool::with(|config| config.memory_bytes = 4 << 20);
    let function = with_limits(&test, |_| {}).await;
    let (sender, steps) = open_steps();
    let hoarding = spawn(&function, steps);
    sender.send("hggg").unwrap();
    let (_response, _) = hoarding.await.unwrap().unwrap();
    let taken = || test.gauge("mayfly_instance_memory_bytes") >= f64::from(3 << 20);
    until("the guest has its memory", taken).await;

    let failed = run(&function, "gh").await.unwrap_err();
    assert!(matches!(failed, InvokeError::NodeMemory), "{failed:?}");
    assert_eq!(limit_hits(&test, Limit::NodeMemory), 1.0);
    // The last eighth is for guests that begin.
    answers(&function).await;
    drop(sender);
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_guest_for_whose_memory_the_node_has_no_room_does_not_start() {
    // The program begins with 64 KiB.
    let test = TestPool::with(|config| config.memory_bytes = 63 << 10);
    let function = with_limits(&test, |_| {}).await;
    let refused = run(&function, "h").await.unwrap_err();
    assert!(matches!(refused, InvokeError::NodeMemory), "{refused:?}");
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_response_that_is_too_large_is_refused_before_any_of_it_is_sent() {
    let test = TestPool::new();
    let function = with_limits(&test, |limits| limits.response_bytes = 2 * X_BYTES as u64).await;
    let (response, _) = run(&function, "hxx").await.unwrap();
    assert_eq!(body(response).await.unwrap().len(), 2 * X_BYTES);
    let failed = run(&function, "hxxx").await.unwrap_err();
    assert!(matches!(failed, InvokeError::ResponseLimit(Limit::ResponseBytes)), "{failed:?}");
    assert_eq!(limit_hits(&test, Limit::ResponseBytes), 1.0);
}

#[tokio::test]
async fn a_call_beyond_the_concurrency_limit_waits_in_the_queue_and_is_then_served() {
    let test = TestPool::new();
    let limits = |limits: &mut Limits| {
        (limits.concurrency, limits.queue) = (1, 1);
        limits.queue_wait = Duration::from_secs(60);
    };
    let function = with_limits(&test, limits).await;
    let running = occupy(&function).await;
    let queued = spawn(&function, crate::program::steps("h"));
    until("the call waits", || test.gauge("mayfly_waiting_invocations") == 1.0).await;

    let refused = run(&function, "h").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Concurrency), "{refused:?}");
    assert_eq!(limit_hits(&test, Limit::Concurrency), 1.0);
    assert_eq!(function.running_invocations(), 1);

    drop(running);
    let (_, start) = queued.await.unwrap().unwrap();
    assert!(start.phases.get(Phase::Queue).is_some());
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_call_that_waits_too_long_in_the_queue_is_refused() {
    let test = TestPool::new();
    let limits = |limits: &mut Limits| {
        limits.concurrency = 1;
        limits.queue_wait = Duration::from_millis(20);
    };
    let function = with_limits(&test, limits).await;
    let running = occupy(&function).await;
    let refused = run(&function, "h").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Concurrency), "{refused:?}");
    drop(running);
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_call_for_which_the_queue_of_the_node_has_no_room_is_refused() {
    let test = TestPool::with(|config| config.queue = 0);
    let function = with_limits(&test, |limits| limits.concurrency = 1).await;
    let running = occupy(&function).await;
    let refused = run(&function, "h").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Queue), "{refused:?}");
    assert_eq!(limit_hits(&test, Limit::Queue), 1.0);
    drop(running);
    test.all_is_given_back().await;
}

#[tokio::test]
async fn a_call_for_which_the_node_has_no_instance_is_refused() {
    let test = TestPool::with(|config| set_instances(config, 1));
    let function = with_limits(&test, |_| {}).await;
    let running = occupy(&function).await;
    until("the instance exists", || test.gauge("mayfly_instance_memory_bytes") > 0.0).await;
    let refused = run(&function, "h").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Instances), "{refused:?}");
    assert_eq!(limit_hits(&test, Limit::Instances), 1.0);
    drop(running);
    test.all_is_given_back().await;
    answers(&function).await;
}

#[tokio::test]
async fn a_call_for_which_the_node_has_no_stack_is_refused_like_one_without_an_instance() {
    // There are memories for four instances, and stacks for two.
    let test = TestPool::with(|config| config.engine.instances = 1);
    let function = with_limits(&test, |_| {}).await;
    let mut running = Vec::new();
    for _ in 0..2 {
        let before = test.gauge("mayfly_instance_memory_bytes");
        running.push(occupy(&function).await);
        until("the instance exists", || test.gauge("mayfly_instance_memory_bytes") > before).await;
    }
    let refused = run(&function, "h").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Instances), "{refused:?}");
    drop(running);
    test.all_is_given_back().await;
    answers(&function).await;
}

#[tokio::test]
async fn a_call_says_how_it_started() {
    let test = TestPool::new();
    let function = with_limits(&test, |_| {}).await;
    let (_, start) = run(&function, "h").await.unwrap();
    assert_eq!(start.tier, Tier::Loaded);
    assert!(start.phases.get(Phase::Instantiate).is_some());
    assert!(start.phases.get(Phase::Guest).is_some());
    assert!(start.phases.get(Phase::Queue).is_none());
}

/// Case O05.
#[tokio::test]
async fn the_last_instances_are_for_functions_and_callers_that_have_few() {
    let test = TestPool::with(|config| set_instances(config, 16));
    let busy = with_limits(&test, |limits| limits.queue = 0).await;
    let other = test.load(key(2), &test.spec(&program())).await.0;
    let mut calls = Vec::new();
    for _ in 0..14 {
        calls.push(occupy(&busy).await);
    }
    let refused = run(&busy, "hx").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Instances), "{refused:?}");
    let refused = invoke_of_a_caller_with(2, &other).await.unwrap_err();
    assert!(matches!(refused, InvokeError::Instances), "{refused:?}");
    assert!(invoke_of_a_caller_with(1, &other).await.is_ok());
    answers(&other).await;
    // The function gets one again as soon as others could get as many as it has.
    calls.clear();
    test.all_is_given_back().await;
    answers(&busy).await;
}
