//! Callers that disconnect: the pool gets back all resources of their calls, and other calls
//! continue.

use std::{fs, sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use runtime_pool::{Function, Limits, Tier, Uploader};

use crate::{
    program::{open_steps, program, steps},
    support::{TestPool, answers, invoke, key, set_worker_script, spawn, until},
};

async fn with_limits(change: impl FnOnce(&mut Limits)) -> (TestPool, Arc<Function>) {
    let test = TestPool::new();
    let mut spec = test.spec(&program());
    change(&mut spec.limits);
    let (function, _) = test.load(key(1), &spec).await;
    (test, function)
}

async fn nothing_is_held(test: &TestPool, function: &Arc<Function>) {
    test.all_is_given_back().await;
    assert_eq!(function.running_invocations(), 0);
    answers(function).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_while_its_guest_waits_ends_the_guest() {
    let (test, function) = with_limits(|_| {}).await;
    let (_sender, steps) = open_steps();
    let call = spawn(&function, steps);
    let in_guest = || test.gauge("mayfly_instance_memory_bytes") > 0.0;
    until("the guest runs", in_guest).await;
    call.abort();
    nothing_is_held(&test, &function).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_while_its_guest_computes_ends_the_guest() {
    let (test, function) = with_limits(|limits| limits.cpu = Duration::from_secs(600)).await;
    let call = spawn(&function, steps("l"));
    let in_guest = || test.gauge("mayfly_instance_memory_bytes") > 0.0;
    until("the guest runs", in_guest).await;
    call.abort();
    nothing_is_held(&test, &function).await;
}

#[tokio::test]
async fn a_response_that_is_dropped_before_its_body_was_read_ends_the_guest() {
    let (test, function) = with_limits(|_| {}).await;
    let (sender, steps) = open_steps();
    sender.send("hx").unwrap();
    let (response, _) = invoke(&function, "/", steps).await.unwrap();
    assert_eq!(function.running_invocations(), 1);
    drop(response);
    nothing_is_held(&test, &function).await;
    drop(sender);
}

#[tokio::test]
async fn a_response_that_is_dropped_in_the_middle_of_its_body_ends_the_guest() {
    let (test, function) = with_limits(|_| {}).await;
    let (sender, steps) = open_steps();
    sender.send("hxxxx").unwrap();
    let (response, _) = invoke(&function, "/", steps).await.unwrap();
    let mut body = response.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    drop(body);
    nothing_is_held(&test, &function).await;
    drop(sender);
}

#[tokio::test]
async fn an_unread_response_makes_its_guest_wait_and_ends_it_when_dropped() {
    let (test, function) = with_limits(|_| {}).await;
    let endless = format!("h{}", "x".repeat(10_000));
    let (response, _) = invoke(&function, "/", steps(&endless)).await.unwrap();
    let mut body = response.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    // The guest waits for its reader: it has not come to the end of its 10 MB.
    assert_eq!(function.running_invocations(), 1);
    drop(body);
    nothing_is_held(&test, &function).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_in_the_queue_leaves_it_and_the_next_one_is_served() {
    let (test, function) = with_limits(|limits| {
        limits.concurrency = 1;
        limits.queue_wait = Duration::from_secs(600);
    })
    .await;
    let (sender, body) = open_steps();
    let running = spawn(&function, body);
    until("the call runs", || function.running_invocations() == 1).await;
    let first = spawn(&function, steps("h"));
    let waiting = || test.gauge("mayfly_waiting_invocations");
    until("the first waits", || waiting() == 1.0).await;
    let second = spawn(&function, steps("h"));
    until("the second waits", || waiting() == 2.0).await;

    first.abort();
    until("the first has left", || waiting() == 1.0).await;
    sender.send("h").unwrap();
    drop(sender);
    running.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    nothing_is_held(&test, &function).await;
}

#[tokio::test]
async fn a_deploy_that_is_dropped_ends_its_compile_worker_and_a_call_compiles() {
    // The first worker writes down its process id and hangs; the others compile.
    let test = TestPool::with(|config| {
        let script = "if mkdir $dir/first; then echo $$ >$dir/pid; exec sleep 600; fi\n\
                      exec $worker \"$@\"";
        set_worker_script(&mut config.compile, script);
    });
    let spec = test.spec(&program());
    let pid = || fs::read_to_string(test.dir().join("pid")).unwrap_or_default();
    tokio::select! {
        _ = test.pool.validate(spec.clone(), Uploader::default()) => panic!("the worker ended"),
        () = until("the worker runs", || pid().ends_with('\n')) => {}
    }
    let (function, start) = test.load(key(1), &spec).await;
    assert_eq!(start.tier, Tier::Frozen);
    answers(&function).await;
    // A process that has ended has no command line, even before its parent has waited for it.
    let command = || fs::read(format!("/proc/{}/cmdline", pid().trim())).unwrap_or_default();
    until("the first worker has ended", || command().is_empty()).await;
}

#[tokio::test]
async fn a_load_that_is_dropped_is_compiled_all_the_same_and_the_next_caller_finds_the_code() {
    // Each worker counts itself, and compiles when it is told to.
    let test = TestPool::with(|config| {
        let script = "echo x >>$dir/workers; while ! test -e $dir/go; do sleep 0.02; done\n\
                      exec $worker \"$@\"";
        set_worker_script(&mut config.compile, script);
    });
    let spec = test.spec(&program());
    let workers = || fs::read_to_string(test.dir().join("workers")).unwrap_or_default();
    tokio::select! {
        _ = test.load(key(1), &spec) => panic!("the worker ended"),
        () = until("the worker runs", || workers().ends_with('\n')) => {}
    }
    fs::write(test.dir().join("go"), "").unwrap();
    let (function, _) = test.load(key(1), &spec).await;
    answers(&function).await;
    assert_eq!((workers(), test.compilations()), ("x\n".to_owned(), 1.0));
}
