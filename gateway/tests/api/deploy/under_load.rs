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

/// The number of changes.
const CHANGES: usize = 60;

/// The response text after each change, the number of changes that have begun, and the number of
/// those that were acknowledged.
#[derive(Default)]
struct Changes {
    text: Mutex<Vec<String>>,
    begun: AtomicUsize,
    answered: AtomicUsize,
}

/// Calls at a steady rate until the last change is acknowledged. Each response must be complete and
/// come from a revision that was active between the call and the response.
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
        let possible = changes.text.lock().unwrap()[oldest..=newest].to_vec();
        assert!(possible.iter().any(|text| text == answer.text()), "{possible:?}: {answer:?}");
        calls += 1;
    }
}

/// Cases D04, U16.
/// A thousand calls a second, as far as the machine allows, while a function gets other bytes,
/// other settings and older revisions in turn.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_revisions_change_and_none_is_stale_after_the_response() {
    const CALLERS: u32 = 8;
    let gateway = TestGateway::start().await;
    let wasm = guest("t-env");
    // The value appears twice, so that a mixed response would show.
    let environment = |n: usize| json!({"environment": {"A": n.to_string(), "B": n.to_string()}});
    let text = |n: usize| format!("A={n}\nB={n}\n");
    let put = |n: usize| {
        let wasm = distinct(&wasm, u32::try_from(n).unwrap());
        gateway.put("greet", wasm).header("mayfly-settings", &environment(n).to_string())
    };
    assert_eq!(put(0).send().await.status(), 201);
    let changes = Arc::new(Changes { text: vec![text(0)].into(), ..Changes::default() });
    let callers = (0..CALLERS).map(|_| {
        let (address, changes) = (gateway.data(), Arc::clone(&changes));
        let every = Duration::from_millis(1) * CALLERS;
        tokio::spawn(async move { call_steadily(address, every, &changes).await })
    });
    let callers: Vec<_> = callers.collect();
    // The response text of each revision.
    let mut revisions = vec![text(0)];
    for n in 1..=CHANGES {
        let before_last = revisions.len() - 1;
        let (change, then) = match n % 3 {
            0 => {
                let target = format!("/v1/functions/greet/revisions/{before_last}/activate");
                (gateway.control(Method::POST, &target), revisions[before_last - 1].clone())
            }
            1 => (put(n), text(n)),
            _ => {
                let patch = gateway.control(Method::PATCH, "/v1/functions/greet");
                (patch.json(&json!({"settings": environment(n)})), text(n))
            }
        };
        if n % 3 != 0 {
            revisions.push(then.clone());
        }
        changes.text.lock().unwrap().push(then.clone());
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
