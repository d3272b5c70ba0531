//! Overload: refusals, their problems, and the work that continues.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use http::Method;
use serde_json::json;

use crate::{
    client::{FullResponse, Http1, Http2, eventually},
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

/// Callers that repeat their call as soon as it is answered, until `long` is over.
async fn crowd(
    gateway: &TestGateway,
    target: &str,
    callers: usize,
    long: Duration,
) -> Vec<FullResponse> {
    let until = Instant::now() + long;
    let caller = async || {
        let mut answers = Vec::new();
        let mut connection = Http1::open(gateway.data()).await;
        while Instant::now() < until {
            answers.push(connection.get(target).await);
        }
        answers
    };
    join_all((0..callers).map(|_| caller())).await.into_iter().flatten().collect()
}

/// The number of responses of each status and problem. Every refusal must carry `retry-after`.
fn tally(answers: &[FullResponse]) -> BTreeMap<(u16, String), usize> {
    let mut tally = BTreeMap::new();
    for answer in answers {
        let status = answer.status();
        let slug = if status == 200 { "" } else { answer.problem().1 };
        if status == 429 || status == 503 {
            let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=3).contains(&seconds), "{answer:?}");
        }
        *tally.entry((status, slug.to_owned())).or_default() += 1;
    }
    tally
}

/// Case O01.
#[tokio::test]
async fn calls_that_busy_processors_cannot_serve_in_time_are_refused_and_the_rest_answered() {
    let gateway = TestGateway::with(&[
        "server.max_lag_ms=5",
        "server.workers=1",
        "server.connections_per_address=0",
        "server.in_flight_per_address=2000",
    ])
    .await;
    // As many slots as callers, so that the processors are the only bottleneck.
    gateway.deploy_with("t-work", &json!({"concurrency": 200})).await;
    let crowd = crowd(&gateway, "/f/t-work/?turns=300000", 200, Duration::from_secs(3));
    let look = async {
        let mut ready = 0;
        for _ in 0..20 {
            ready +=
                u32::from(gateway.anonymous(Method::GET, "/readyz").send().await.status() == 200);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        ready
    };
    let (answers, ready) = tokio::join!(crowd, look);
    assert_eq!(ready, 20, "the control plane must answer throughout");
    let tally = tally(&answers);
    let refused = tally.get(&(503, "cpu-pressure".to_owned())).copied().unwrap_or(0);
    let answered = tally.get(&(200, String::new())).copied().unwrap_or(0);
    assert!(refused > 0 && answered > 0, "{tally:?}");
    assert_eq!(refused + answered, answers.len(), "{tally:?}");
    let series = "mayfly_problems_total";
    assert_eq!(gateway.metric(series).await, refused as f64, "each refusal must be counted");

    eventually("the scheduling delay falls after the overload", async || {
        (gateway.metric("mayfly_scheduling_delay_seconds").await < 0.005).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/f/t-work/?turns=1").await.status(), 200);
}

/// Case O01.
#[tokio::test]
async fn calls_beyond_slots_and_queue_are_refused_at_once_and_the_rest_answered() {
    let gateway = TestGateway::with(&[
        "server.connections_per_address=0",
        "server.in_flight_per_address=2000",
    ])
    .await;
    gateway.deploy_with("t-sleep", &json!({"concurrency": 4, "queue": 8})).await;
    let answers = crowd(&gateway, "/f/t-sleep/?ms=100", 60, Duration::from_secs(2)).await;
    let tally = tally(&answers);
    let answered = tally.get(&(200, String::new())).copied().unwrap_or(0);
    let refused = tally.get(&(429, "concurrency-limit".to_owned())).copied().unwrap_or(0);
    assert_eq!(refused + answered, answers.len(), "{tally:?}");
    assert!(refused > answered && answered >= 12, "{tally:?}");
    // Everything was released: the function is served again.
    gateway.metric_becomes("mayfly_waiting_invocations", 0.0).await;
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    assert_eq!(gateway.get("/f/t-sleep/?ms=0").await.status(), 200);
}

/// Callers at a steady rate, however fast the gateway responds. Each retries at once when it is
/// refused.
struct RetryingCallers<'a> {
    gateway: &'a TestGateway,
    retries: u32,
    /// Idle connections for the next callers.
    kept: Mutex<Vec<Http1>>,
}

impl RetryingCallers<'_> {
    /// Calls for a while. Returns the numbers of answered calls and of refusals.
    async fn call(&self, per_s: f64, long: Duration) -> (usize, usize) {
        let mut due = tokio::time::interval(Duration::from_secs_f64(1.0 / per_s));
        let until = Instant::now() + long;
        let (mut calls, mut counts) = (FuturesUnordered::new(), (0, 0));
        let mut count = |(answered, refused): (bool, usize)| {
            counts.0 += usize::from(answered);
            counts.1 += refused;
        };
        while Instant::now() < until {
            tokio::select! {
                _ = due.tick() => calls.push(self.one()),
                Some(ended) = calls.next() => count(ended),
            }
        }
        while let Some(ended) = calls.next().await {
            count(ended);
        }
        counts
    }

    /// Makes one call with its retries. Returns whether it was answered and how often it was
    /// refused.
    async fn one(&self) -> (bool, usize) {
        let kept = self.kept.lock().unwrap().pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => Http1::open(self.gateway.data()).await,
        };
        let (mut answered, mut refused) = (false, 0);
        for _ in 0..=self.retries {
            let answer = connection.get("/f/t-sleep/?ms=200").await;
            answered = answer.status() == 200;
            if answered {
                break;
            }
            assert_eq!(answer.problem(), (429, "concurrency-limit"));
            refused += 1;
        }
        self.kept.lock().unwrap().push(connection);
        (answered, refused)
    }
}

/// Case O02.
#[tokio::test]
async fn immediate_retries_do_not_prevent_recovery() {
    let gateway = TestGateway::with(&[
        "server.connections_per_address=0",
        "server.in_flight_per_address=2000",
    ])
    .await;
    gateway.deploy_with("t-sleep", &json!({"concurrency": 8, "queue": 32})).await;
    let callers = RetryingCallers { gateway: &gateway, retries: 3, kept: Mutex::default() };

    // Eight slots of a fifth of a second each serve 40 calls a second on an idle machine.
    let (second, since) = (Duration::from_secs(1), Instant::now());
    let (answered, refused) = callers.call(80.0, 4 * second).await;
    let capacity = answered as f64 / since.elapsed().as_secs_f64();
    assert!(refused > answered, "{answered} answered, {refused} refused: not an overload");
    assert!(capacity > 20.0, "{capacity} a second");

    let since = Instant::now();
    while callers.call(0.8 * capacity, second).await.1 > 0 {
        assert!(since.elapsed() < 10 * second, "the gateway still refuses calls");
    }
    let (answered, refused) = callers.call(0.8 * capacity, 2 * second).await;
    assert!(refused == 0 && answered > 0, "{answered} answered, {refused} refused");
}

/// Case O01.
#[tokio::test]
async fn a_call_that_would_time_out_in_the_queue_is_refused_at_once() {
    let wait = Duration::from_secs(4);
    let gateway = TestGateway::with(&["limits.queue_wait_ms=4000"]).await;
    gateway.deploy_with("t-sleep", &json!({"concurrency": 1, "queue": 100})).await;
    let call = async || {
        let since = Instant::now();
        let answer = gateway.get("/f/t-sleep/?ms=500").await;
        (answer.status(), since.elapsed())
    };
    // The gateway learns from these how long a call takes.
    for (status, _) in join_all((0..4).map(|_| call())).await {
        assert_eq!(status, 200);
    }
    let answers = join_all((0..60).map(|_| call())).await;
    let refused: Vec<_> = answers.iter().filter(|(status, _)| *status == 429).collect();
    let answered = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!(refused.len() + answered, answers.len(), "{answers:?}");
    assert!(answered >= 4 && refused.len() >= 40, "{answers:?}");
    let at_once = refused.iter().filter(|(_, took)| *took < wait).count();
    assert!(at_once >= refused.len() - 2, "refused too late: {answers:?}");
}

/// Case O09.
#[tokio::test]
async fn without_free_memory_calls_are_refused_and_the_control_plane_answers() {
    // Less than the process itself needs.
    let mut gateway = TestGateway::with(&["server.memory_bytes=1048576"]).await;
    gateway.deploy("c-hello").await;
    eventually("calls are refused", async || {
        let answer = gateway.get("/f/c-hello/").await;
        (answer.status() != 200).then(|| {
            assert_eq!(answer.problem(), (503, "memory-pressure"));
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
        })
    })
    .await;
    assert_eq!(gateway.api("/v1/functions").await.status(), 200);
    let [used, limit] = [
        gateway.metric("mayfly_memory_used_bytes").await,
        gateway.metric("mayfly_memory_limit_bytes").await,
    ];
    assert!(limit == 1_048_576.0 && used > limit, "{used} of {limit}");

    gateway.terminate();
    gateway.exit().await;
    gateway.start_with(&["server.memory_bytes=100000000000"]).await;
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
}

/// Case O09.
#[tokio::test]
async fn when_memory_runs_short_connections_are_closed_and_clients_may_reconnect() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    gateway.deploy_with("t-hostile", &json!({"cpu_ms": 30_000})).await;
    gateway.terminate();
    gateway.exit().await;
    // Enough for the process, and less than the guests may allocate.
    gateway.start_with(&["server.memory_bytes=160MiB"]).await;
    let mut idle = Http1::open(gateway.data()).await;
    assert_eq!(idle.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    let http2 = Http2::open(gateway.data()).await;
    let uri = format!("http://{}/f/c-hello/", gateway.data());
    assert_eq!(http2.open_stream(&uri).await.status(), 200);

    let hoard = async || {
        let hoards = (0..4).map(|_| gateway.call(Method::GET, "/f/t-hostile/hoard").try_send());
        drop(join_all(hoards).await);
    };
    eventually("both connections are closed", async || {
        hoard().await;
        (idle.is_closed() && http2.is_closed()).then_some(())
    })
    .await;
    eventually("a new connection is served", async || {
        let answer = gateway.get("/f/c-hello/").await;
        (answer.status() == 200).then_some(())
    })
    .await;
}

/// Case O07.
#[tokio::test]
async fn calls_are_answered_while_many_artifacts_are_compiled() {
    const DEPLOYS: u32 = 12;
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let wasm = guest("echo");
    let deploys = async {
        let puts = (0..DEPLOYS).map(|n| gateway.put(&format!("f-{n}"), distinct(&wasm, n)).send());
        for answer in join_all(puts).await {
            assert_eq!(answer.status(), 201, "{answer:?}");
        }
    };
    let mut canary = Http1::open(gateway.data()).await;
    tokio::pin!(deploys);
    loop {
        tokio::select! {
            () = &mut deploys => break,
            answer = canary.get("/f/c-hello/") => {
                assert_eq!(answer.plain(), (200, "hello from c\n"));
            }
        }
    }
    assert_eq!(gateway.metric("mayfly_compilations_total").await, f64::from(DEPLOYS + 1));
}
