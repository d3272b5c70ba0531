//! How a function becomes resident.

use std::{
    fs, future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use runtime_pool::{FunctionSpec, LoadError, Phase, Refusal, RequestBody, State, Tier, Uploader};

use crate::{
    program::{another_program, program},
    support::{TestPool, answers, guest, invoke, key, set_worker_script, until},
};

#[tokio::test]
async fn the_first_load_compiles_and_later_ones_find_the_native_code() {
    let test = TestPool::new();
    let spec = test.spec(&program());
    let (function, start) = test.load(key(1), &spec).await;
    assert_eq!(start.tier, Tier::Frozen);
    assert!(start.phases.get(Phase::Compile).is_some() && start.phases.get(Phase::Link).is_some());
    answers(&function).await;

    let (resident, start) = test.load(key(1), &spec).await;
    assert_eq!(start.tier, Tier::Loaded);
    assert!(Arc::ptr_eq(&function, &resident));

    test.pool.evict(&key(1)).await;
    let (function, start) = test.load(key(1), &spec).await;
    assert_eq!(start.tier, Tier::Cold);
    assert!(start.phases.get(Phase::Compile).is_none() && start.phases.get(Phase::Load).is_some());
    answers(&function).await;
    assert_eq!(test.compilations(), 1.0);

    drop((function, resident));
    let test = test.restart();
    assert_eq!(test.tier(key(1), &spec).await, Tier::Cold);
    assert_eq!(test.compilations(), 0.0);
}

#[tokio::test]
async fn every_kind_of_guest_is_compiled_and_answers() {
    let test = TestPool::new();
    let kinds = [guest("hello"), guest("hello-p3"), guest("hello-command"), guest("hello-cgi")];
    for (number, wasm) in kinds.iter().enumerate() {
        let (function, _) = test.load(key(number as i64), &test.spec(wasm)).await;
        let (response, _) = invoke(&function, "/", RequestBody::Empty).await.unwrap();
        assert_eq!(response.status(), 200, "guest {number}");
    }
    assert_eq!(test.labelled("mayfly_compilations_total", "ok"), 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_of_many_functions_is_compiled_once_even_if_all_are_asked_for_at_once() {
    let test = TestPool::new();
    let spec = test.spec(&program());
    let loads = join_all((0..16).map(|function| test.load(key(function), &spec))).await;
    assert_eq!(test.compilations(), 1.0);
    let tiers: Vec<_> = loads.iter().map(|(_, start)| start.tier).collect();
    assert_eq!(tiers.iter().filter(|tier| **tier == Tier::Frozen).count(), 1, "{tiers:?}");
    assert_eq!(test.gauge("mayfly_resident_functions"), 16.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_calls_of_one_function_load_it_once() {
    let test = TestPool::new();
    let spec = test.spec(&program());
    let asked = AtomicUsize::new(0);
    let load = || async {
        let source = async {
            asked.fetch_add(1, Relaxed);
            Ok::<_, LoadError>(spec.clone())
        };
        test.pool.get_or_load(key(1), source).await.unwrap()
    };
    let loads = join_all((0..16).map(|_| load())).await;
    assert_eq!(asked.into_inner(), 1);
    assert!(loads.iter().all(|(function, _)| Arc::ptr_eq(function, &loads[0].0)));
    let waited = |start: &runtime_pool::Start| start.phases.get(Phase::Queue).is_some();
    assert_eq!(loads.iter().filter(|(_, start)| waited(start)).count(), 15);
}

#[tokio::test]
async fn an_artifact_that_is_not_there_is_missing_until_it_is() {
    let test = TestPool::new();
    let spec = test.spec(&program());
    fs::remove_file(&spec.artifact).unwrap();
    let missing = test.try_load(key(1), &spec).await.unwrap_err();
    assert!(matches!(*missing, LoadError::Missing), "{missing:?}");
    assert_eq!(test.pool.state(&key(1)), State::Cold);

    fs::write(&spec.artifact, program()).unwrap();
    answers(&test.load(key(1), &spec).await.0).await;
}

#[tokio::test]
async fn an_artifact_that_is_not_what_its_digest_names_is_damaged() {
    let test = TestPool::new();
    let spec = test.spec(&program());
    fs::write(&spec.artifact, another_program(1)).unwrap();
    let damaged = test.try_load(key(1), &spec).await.unwrap_err();
    assert!(matches!(*damaged, LoadError::Damaged), "{damaged:?}");
    assert_eq!(test.labelled("mayfly_compilations_total", "failed"), 1.0);
}

#[tokio::test]
async fn a_file_that_is_not_wasm_is_refused_without_a_compilation() {
    let test = TestPool::new();
    let refused = test.try_load(key(1), &test.spec(b"#!/bin/sh\n")).await.unwrap_err();
    assert!(matches!(*refused, LoadError::Refused(Refusal::NotWasm(_))), "{refused:?}");
    assert_eq!(test.compilations(), 0.0);
}

#[tokio::test]
async fn a_source_that_fails_is_asked_again_by_the_next_call() {
    let test = TestPool::new();
    let failing = future::ready(Err::<FunctionSpec, _>(LoadError::NoSpace));
    let failed = test.pool.get_or_load(key(1), failing).await.unwrap_err();
    assert!(matches!(*failed, LoadError::NoSpace), "{failed:?}");
    answers(&test.load(key(1), &test.spec(&program())).await.0).await;
}

#[tokio::test]
async fn without_the_async_engine_wasi_0_3_is_refused_and_other_kinds_load() {
    let test = TestPool::with(|config| config.engine.async_engine = false);
    let refused = test.try_load(key(1), &test.spec(&guest("hello-p3"))).await.unwrap_err();
    assert!(matches!(*refused, LoadError::AsyncEngineOff), "{refused:?}");
    answers(&test.load(key(2), &test.spec(&program())).await.0).await;
}

#[tokio::test]
async fn an_artifact_whose_start_traps_is_refused_at_its_deploy_and_not_made_resident() {
    let test = TestPool::new();
    let wasm = wat::parse_str(
        r#"(module (memory (export "memory") 1) (func $trap (unreachable)) (start $trap)
            (func (export "_start")))"#,
    );
    let refused =
        test.pool.validate(test.spec(&wasm.unwrap()), Uploader::default()).await.unwrap_err();
    assert!(matches!(refused, LoadError::Refused(Refusal::Start(_))), "{refused:?}");
    test.pool.validate(test.spec(&program()), Uploader::default()).await.unwrap();
    // The functions of both deploys are dropped.
    assert_eq!(test.gauge("mayfly_resident_functions"), 0.0);
    test.all_is_given_back().await;
}

/// Starts a pool whose compile worker never ends. It makes a file once it runs.
fn with_a_worker_that_hangs(jobs: usize, queue: usize, wall: Duration) -> TestPool {
    TestPool::with(|config| {
        set_worker_script(&mut config.compile, ": >$dir/hangs; exec sleep 600");
        (config.compile.jobs, config.compile.queue, config.compile.wall) = (jobs, queue, wall);
    })
}

#[tokio::test]
async fn a_compilation_for_which_the_queue_has_no_room_is_refused_at_once() {
    let test = with_a_worker_that_hangs(1, 0, Duration::from_secs(600));
    let hanging = test.spec(&program());
    let refused = async {
        until("the worker runs", || test.dir().join("hangs").exists()).await;
        test.try_load(key(2), &test.spec(&another_program(1))).await.unwrap_err()
    };
    tokio::select! {
        _ = test.try_load(key(1), &hanging) => panic!("the worker ended"),
        refused = refused => assert!(matches!(*refused, LoadError::CompilerBusy), "{refused:?}"),
    }
}

#[tokio::test]
async fn a_compilation_that_takes_too_long_is_ended_and_refused_with_the_setting() {
    let test = with_a_worker_that_hangs(1, 0, Duration::from_millis(200));
    let refused = test.try_load(key(1), &test.spec(&program())).await.unwrap_err();
    match &*refused {
        LoadError::Refused(Refusal::CompileLimit(why)) => {
            assert!(why.contains("compile.wall_s"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(test.labelled("mayfly_compilations_total", "refused"), 1.0);
}

#[tokio::test]
async fn deploys_are_held_to_their_rate_of_compilations_and_calls_are_not() {
    let test = TestPool::with(|config| config.compile.deploys_per_minute = 1);
    test.pool.validate(test.spec(&another_program(1)), Uploader::default()).await.unwrap();
    let second = test.spec(&another_program(2));
    let refused = test.pool.validate(second.clone(), Uploader::default()).await.unwrap_err();
    assert!(matches!(refused, LoadError::CompileRate { per_minute: 1, .. }), "{refused:?}");
    answers(&test.load(key(2), &second).await.0).await;
    // Native code that exists costs no compilation.
    test.pool.validate(second, Uploader::default()).await.unwrap();
}
