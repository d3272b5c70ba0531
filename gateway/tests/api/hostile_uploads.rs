//! Uploads that attack a parser, a compiler, a disk or a name, while the gateway serves other
//! calls.

mod bombs;
mod damaged;
mod names;
mod quotas;
mod random;
mod repeated;
mod sandbox;
mod start;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{client::Http1, test_gateway::TestGateway};

/// Calls `c-hello` throughout an attack, which must not affect it.
pub(crate) struct Canary {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<Vec<Duration>>,
}

impl Canary {
    /// `c-hello` must be deployed.
    pub(crate) fn start(gateway: &TestGateway) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopped) = (gateway.data(), Arc::clone(&stop));
        let calls = tokio::spawn(async move {
            let mut connection = Http1::open(address).await;
            let mut took = Vec::new();
            while !stopped.load(Relaxed) {
                let since = Instant::now();
                let answer = connection.get("/f/c-hello/").await;
                took.push(since.elapsed());
                assert_eq!(answer.plain(), (200, "hello from c\n"));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            took
        });
        Self { stop, calls }
    }

    /// Asserts that every call was answered, and the median call without waiting for the attack.
    pub(crate) async fn ends_unharmed(self) {
        self.stop.store(true, Relaxed);
        let mut took = self.calls.await.unwrap();
        took.sort_unstable();
        assert!(!took.is_empty());
        let median = took[took.len() / 2];
        // Far more than a call takes, and far less than any of the attacks takes.
        assert!(median < Duration::from_millis(100), "{median:?}");
    }
}

/// `few` repetitions in the suite that every change runs, and `all` with `MAYFLY_LONG=1`.
pub(crate) fn repetitions(few: u32, all: u32) -> u32 {
    #[expect(clippy::disallowed_methods, reason = "asks whether this is one of the long runs")]
    let long = std::env::var("MAYFLY_LONG").is_ok_and(|value| value == "1");
    if long { all } else { few }
}
