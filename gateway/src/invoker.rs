//! The one door to functions. HTTP uses it; so will cron and queues.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};
use runtime_pool::{Caller, Function, InvokeError, LoadError, Pool, RequestBody, Response, Tier};

use crate::catalog::Active;

/// Upper bounds of request times, in seconds.
const BUCKETS: &[f64] = &[
    20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 1.0,
    5.0, 30.0,
];

/// The outcome of an invocation that was answered by its function.
const OK: &str = "ok";

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Load(Arc<LoadError>),
    #[error(transparent)]
    Invoke(#[from] InvokeError),
}

/// Calls functions.
#[derive(Clone)]
pub(crate) struct Invoker {
    pool: Arc<Pool>,
    metrics: InvokerMetrics,
}

/// What invocations come to.
#[derive(Clone, Debug)]
pub(crate) struct InvokerMetrics {
    requests: IntCounterVec,
    /// One per tier, resolved once.
    total_seconds: [Histogram; 4],
}

/// The counter that most invocations of a function increment, resolved at the first of them.
#[derive(Debug, Default)]
pub(crate) struct OkCounter(OnceLock<IntCounter>);

impl InvokerMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "mayfly_requests_total",
                "Invocations, by function, outcome and the tier they started from",
            ),
            &["function", "outcome", "start"],
        )?;
        let total_seconds = HistogramVec::new(
            HistogramOpts::new(
                "mayfly_total_seconds",
                "From the request's head to the response's head, by tier",
            )
            .buckets(BUCKETS.to_vec()),
            &["start"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(total_seconds.clone()))?;
        let total_seconds = Tier::ALL.map(|tier| total_seconds.with_label_values(&[tier.as_str()]));
        Ok(Self { requests, total_seconds })
    }

    fn record(&self, target: &Active, outcome: &str, start: Tier, since: Instant) {
        let count = || {
            let labels = [&*target.source.label, outcome, start.as_str()];
            self.requests.with_label_values(&labels)
        };
        if outcome == OK && start == Tier::Loaded {
            target.ok.0.get_or_init(count).inc();
        } else {
            count().inc();
        }
        self.total_seconds[start as usize].observe(since.elapsed().as_secs_f64());
    }
}

impl Invoker {
    pub(crate) fn new(pool: Arc<Pool>, metrics: InvokerMetrics) -> Self {
        Self { pool, metrics }
    }

    /// Calls `target` with `request`.
    pub(crate) async fn invoke(
        &self,
        target: &Active,
        request: http::Request<RequestBody>,
        caller: Caller,
    ) -> Result<Response, Error> {
        let started = Instant::now();
        let (function, tier) = match target.hot.get(started) {
            Some(function) => (function, Tier::Loaded),
            None => self.resident(target, started).await?,
        };
        let result = function.invoke(request, caller).await;
        let outcome = result.as_ref().err().map_or(OK, InvokeError::outcome);
        self.metrics.record(target, outcome, tier, started);
        Ok(result?.0)
    }

    /// Asks the pool, which loads the function if need be.
    async fn resident(
        &self,
        target: &Active,
        started: Instant,
    ) -> Result<(Arc<Function>, Tier), Error> {
        let load = async { Ok::<_, LoadError>(target.source.clone()) };
        match self.pool.get_or_load(target.key, load).await {
            Ok((function, tier)) => {
                target.hot.set(&function, Instant::now());
                Ok((function, tier))
            }
            Err(error) => {
                self.metrics.record(target, "load-failed", Tier::Cold, started);
                Err(Error::Load(error))
            }
        }
    }
}
