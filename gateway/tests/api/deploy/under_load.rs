//! A function that changes while it is called all the time.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use crate::{
    client::Http1,
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

/// How often the function changes.
const CHANGES: usize = 60;

/// What a function says after each change of it, the changes that have begun, and those that were
/// answered.
#[derive(Default)]
struct Changes {
    says: Mutex<Vec<String>>,
    begun: AtomicUsize,
    answered: AtomicUsize,
}

/// Calls at a steady rate, whatever the gateway does, until somebody says stop. Each answer is
/// whole, and of a revision that was active between the call and the answer.
async fn call_steadily(address: SocketAddr, every: Duration, changes: &Changes) -> usize {
    let mut connection = Http1::open(address).await;
    let mut due = tokio::time::interval(every);
    let mut calls = 0;
    loop {
        due.tick().await;
        let oldest = changes.answered.load(SeqCst);
        if oldest == CHANGES {
            return calls;
        }
        let answer = connection.get("/f/greet/").await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let newest = changes.begun.load(SeqCst);
        let may_be = changes.says.lock().unwrap()[oldest..=newest].to_vec();
        assert!(may_be.iter().any(|says| says == answer.text()), "{may_be:?}: {answer:?}");
        calls += 1;
    }
}

/// Cases D04, U16.
/// A thousand calls a second, as far as the machine allows, while a function gets other bytes, other
/// settings and older revisions in turn.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_revisions_change_and_none_is_stale_after_the_response() {
    const CALLERS: u32 = 8;
    let gateway = TestGateway::start().await;
    let wasm = guest("t-env");
    // Twice, so that one half of the answer can be held against the other.
    let environment = |n: usize| json!({"environment": {"A": n.to_string(), "B": n.to_string()}});
    let says = |n: usize| format!("A={n}\nB={n}\n");
    let put = |n: usize| {
        let wasm = distinct(&wasm, u32::try_from(n).unwrap());
        gateway.put("greet", wasm).header("mayfly-settings", &environment(n).to_string())
    };
    assert_eq!(put(0).send().await.status(), 201);
    let changes = Arc::new(Changes { says: vec![says(0)].into(), ..Changes::default() });
    let callers = (0..CALLERS).map(|_| {
        let (address, changes) = (gateway.data(), Arc::clone(&changes));
        let every = Duration::from_millis(1) * CALLERS;
        tokio::spawn(async move { call_steadily(address, every, &changes).await })
    });
    let callers: Vec<_> = callers.collect();
    // What each revision says.
    let mut revisions = vec![says(0)];
    for n in 1..=CHANGES {
        let before_last = revisions.len() - 1;
        let (change, then) = match n % 3 {
            0 => {
                let target = format!("/v1/functions/greet/revisions/{before_last}/activate");
                (gateway.control(Method::POST, &target), revisions[before_last - 1].clone())
            }
            1 => (put(n), says(n)),
            _ => {
                let patch = gateway.control(Method::PATCH, "/v1/functions/greet");
                (patch.json(&json!({"settings": environment(n)})), says(n))
            }
        };
        if n % 3 != 0 {
            revisions.push(then.clone());
        }
        changes.says.lock().unwrap().push(then.clone());
        changes.begun.store(n, SeqCst);
        let changed = change.send().await;
        assert!(matches!(changed.status(), 200 | 201), "{changed:?}");
        changes.answered.store(n, SeqCst);
        assert_eq!(gateway.get("/f/greet/").await.plain(), (200, then.as_str()));
    }
    for calls in join_all(callers).await {
        assert!(calls.unwrap() > 0);
    }
}
