//! Panics within host calls. Each ends one call and gives back all that the call held; other calls go
//! on.
//!
//! A guest reads its request's body with host calls, and these poll the body that the test made: a
//! body that panics is a host call that panics. A panic at once happens on the guest's fiber, below
//! the guest's own frames. After a pause it happens there, too, for preview1 and WASI 0.2, and in a
//! task of the store for WASI 0.3.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use runtime_pool::{BodyError, Function, LoadError, RequestBody};
use tokio::{task::JoinSet, time};

use crate::{
    program::{X_BYTES, program, steps},
    support::{TestPool, answers, body, guest, invoke, key},
};

/// Calls that panic, of all kinds together: the same number for each of the six guests.
const PANICS: usize = 1_002;
/// Calls at once.
const AT_ONCE: usize = 8;

/// Which guest is called, and how.
#[derive(Clone, Copy)]
struct Callee {
    name: &'static str,
    path: &'static str,
    /// The start of the request's body.
    first: &'static str,
    /// Bytes that follow, each the same.
    then: (u8, usize),
}

/// More than leaves in one piece with the head of a response.
const MUCH: usize = 200_000;

/// Guests that have read their request's body when they answer.
const READERS: [Callee; 3] = [
    Callee { name: PROGRAM, path: "/", first: "", then: (b'x', 0) },
    Callee { name: "t-read", path: "/", first: "7 bytes", then: (b'x', 0) },
    Callee { name: "t-hostile-p3", path: "/read", first: "7 bytes", then: (b'x', 0) },
];
/// Guests that answer while they read.
const STREAMERS: [Callee; 3] = [
    Callee { name: PROGRAM, path: "/", first: "h", then: (b'x', MUCH / X_BYTES) },
    Callee { name: "echo", path: "/", first: "", then: (b'x', MUCH) },
    Callee { name: "echo-p3", path: "/", first: "", then: (b'x', MUCH) },
];
/// Stands for the guest in [`crate::program`].
const PROGRAM: &str = "program";

/// How a call came out.
#[derive(Debug, PartialEq)]
enum Outcome {
    Answered,
    BrokenOff,
    Panicked,
}

/// When a request's body panics.
#[derive(Clone, Copy, Debug)]
enum Panic {
    AtOnce,
    AfterAPause,
}

/// A body that panics after these bytes.
fn panicking(bytes: Vec<u8>, panic: Panic) -> RequestBody {
    let first = stream::iter([Ok::<_, BodyError>(Frame::data(Bytes::from(bytes)))]);
    let then = stream::once(async move {
        if matches!(panic, Panic::AfterAPause) {
            time::sleep(Duration::from_micros(100)).await;
        }
        panic!("on purpose");
    });
    RequestBody::Stream(StreamBody::new(first.chain(then)).boxed_unsync())
}

async fn call(function: &Arc<Function>, target: &str, request: RequestBody) -> Outcome {
    // As the gateway does it.
    let invoked = AssertUnwindSafe(invoke(function, target, request)).catch_unwind().await;
    let Ok(invoked) = invoked else { return Outcome::Panicked };
    let (response, _) = invoked.unwrap();
    assert_eq!(response.status(), 200, "{target}");
    match body(response).await {
        Ok(_) => Outcome::Answered,
        Err(_) => Outcome::BrokenOff,
    }
}

impl Callee {
    fn bytes(&self) -> Vec<u8> {
        let (byte, times) = self.then;
        [self.first.as_bytes(), &vec![byte; times]].concat()
    }

    /// A request that this guest answers.
    fn whole(&self) -> RequestBody {
        // The program writes its head when it is told to.
        let head = if self.name == PROGRAM { "h" } else { "" };
        steps(&format!("{head}{}", self.first))
    }

    fn wasm(&self) -> Vec<u8> {
        if self.name == PROGRAM { program() } else { guest(self.name) }
    }
}

/// Case G28.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_panics_within_host_calls_end_a_thousand_calls_and_nothing_else() {
    let test = TestPool::new();
    let mut functions = Vec::new();
    for (number, callee) in READERS.iter().chain(&STREAMERS).enumerate() {
        let (function, _) = test.load(key(number as i64), &test.spec(&callee.wasm())).await;
        functions.push((*callee, function));
    }

    let mut calls = JoinSet::new();
    for n in 0..PANICS {
        let index = n % functions.len();
        let (callee, function) = functions[index].clone();
        let panic = [Panic::AtOnce, Panic::AfterAPause][n / functions.len() % 2];
        // In the request's own task, or in the task of a guest that continues after its head.
        let expected = if index < READERS.len() { Outcome::Panicked } else { Outcome::BrokenOff };
        calls.spawn(async move {
            let outcome = call(&function, callee.path, panicking(callee.bytes(), panic)).await;
            assert_eq!(outcome, expected, "{}: {panic:?}", callee.name);
            let next = call(&function, callee.path, callee.whole()).await;
            assert_eq!(next, Outcome::Answered, "{} after a panic", callee.name);
        });
        if calls.len() == AT_ONCE {
            calls.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }

    test.all_is_given_back().await;
    assert!(functions.iter().all(|(_, function)| function.running_invocations() == 0));
    assert_eq!(test.counter("mayfly_responses_aborted_total"), (PANICS / 2) as f64);
}

#[tokio::test]
async fn a_panic_while_a_function_is_loaded_leaves_it_to_the_next_call() {
    let test = TestPool::new();
    let spec = test.spec(&program());
    let panics = async { panic!("on purpose") };
    let load = test.pool.get_or_load::<LoadError>(key(1), panics);
    assert!(AssertUnwindSafe(load).catch_unwind().await.is_err());
    answers(&test.load(key(1), &spec).await.0).await;
}
