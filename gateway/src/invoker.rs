//! The only way to call a function, for HTTP requests and for triggers of any other kind.

pub(crate) mod channel;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use prometheus::{IntCounterVec, Opts, Registry};
use runtime_pool::{
    Fault, Function, FunctionCall, InvokeError, LoadError, Phase, Pool, PoolMetrics, Response,
    Start, Tier, remove_series,
};
use tokio::time;

use crate::functions::{
    catalog::CatalogEntry,
    channels::counts::{CallEnd, ChannelLabel, ChannelMetrics},
    quarantine::Quarantine,
};

/// The outcome of an invocation to which the function responded.
const OK: &str = "ok";

/// Why an invocation has no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Load(Arc<LoadError>),
    /// The function was not in memory within the time of one invocation. It is still being compiled.
    #[error("the function was not loaded within {0:?} (timeout_ms)")]
    LoadTimeout(Duration),
    #[error(transparent)]
    Invoke(#[from] InvokeError),
}

/// How an invocation ended, as far as the head of its answer tells.
pub(crate) fn ended(result: &Result<(Response, Start), Error>) -> CallEnd {
    match result {
        Ok((response, _)) if response.status() < StatusCode::INTERNAL_SERVER_ERROR => CallEnd::Ok,
        Ok(_) => CallEnd::Error,
        Err(error) => error.ended(),
    }
}

impl Error {
    /// How the invocation ended, as channels count it. A function that does not start has failed,
    /// whoever is at fault.
    fn ended(&self) -> CallEnd {
        match self {
            Self::Load(_) | Self::LoadTimeout(_) | Self::Invoke(InvokeError::Start(_)) => {
                CallEnd::Failed
            }
            Self::Invoke(error) if error.fault() == Fault::Function => CallEnd::Failed,
            Self::Invoke(_) => CallEnd::Refused,
        }
    }
}

/// Calls functions.
#[derive(Clone)]
pub(crate) struct Invoker {
    pool: Arc<Pool>,
    quarantine: Arc<Quarantine>,
    metrics: InvokerMetrics,
}

/// Counts invocations.
#[derive(Clone, Debug)]
pub(crate) struct InvokerMetrics {
    requests: IntCounterVec,
    channels: ChannelMetrics,
    pool: PoolMetrics,
}

impl InvokerMetrics {
    fn register(registry: &Registry, pool: PoolMetrics) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "mayfly_requests_total",
                "Invocations, by function, outcome and the tier they started from",
            ),
            &["function", "outcome", "start"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        let channels = ChannelMetrics::register(registry)?;
        Ok(Self { requests, channels, pool })
    }

    /// Removes the series of a function that was deleted. No call may run under its label.
    pub(crate) fn forget(&self, label: &str) {
        remove_series(&self.requests, "function", label);
        self.pool.forget_function(label);
    }

    /// Removes the series of a channel that no call uses any more.
    pub(crate) fn forget_channel(&self, label: &ChannelLabel) {
        self.channels.forget(label);
    }

    /// Counts an invocation that began at `since`.
    fn record(&self, target: &CatalogEntry, outcome: &str, start: &mut Start, since: Instant) {
        let tier = start.tier;
        let count = || {
            let labels = [&*target.ungranted.label, outcome, tier.as_str()];
            self.requests.with_label_values(&labels)
        };
        if outcome == OK && tier == Tier::Loaded {
            target.ok.inc(count);
        } else {
            count().inc();
        }
        start.phases.set(Phase::Total, since.elapsed());
        self.pool.started(start);
    }
}

impl Invoker {
    /// `pool_metrics` counts the phases of starts.
    pub(crate) fn new(
        pool: &Arc<Pool>,
        quarantine: &Arc<Quarantine>,
        registry: &Registry,
        pool_metrics: PoolMetrics,
    ) -> prometheus::Result<Self> {
        let metrics = InvokerMetrics::register(registry, pool_metrics)?;
        Ok(Self { pool: Arc::clone(pool), quarantine: Arc::clone(quarantine), metrics })
    }

    /// The metrics of invocations.
    pub(crate) fn metrics(&self) -> InvokerMetrics {
        self.metrics.clone()
    }

    /// Whether guests must queue for the processors.
    pub(crate) fn is_busy(&self, now: Instant) -> bool {
        self.pool.run_queue().is_busy(now)
    }

    /// The metric of calls through channels.
    pub(crate) fn channel_metrics(&self) -> &ChannelMetrics {
        &self.metrics.channels
    }

    /// Calls `target`.
    pub(crate) async fn invoke(
        &self,
        target: &CatalogEntry,
        call: Box<FunctionCall>,
    ) -> Result<(Response, Start), Error> {
        let since = Instant::now();
        let (function, mut start, now) = match target.resident.get(since) {
            Some(function) => (function, Start::resident(), since),
            None => {
                let (function, start) = {
                    let timeout = call.context.timeout;
                    Box::pin(self.get_or_load(target, timeout, since)).await?
                };
                (function, start, Instant::now())
            }
        };
        match function.invoke(call, start, now).await {
            Ok((response, mut start)) => {
                self.metrics.record(target, OK, &mut start, since);
                Ok((response, start))
            }
            Err(error) => {
                self.metrics.record(target, error.outcome(), &mut start, since);
                Err(error.into())
            }
        }
    }

    /// Gets the function from the pool, which loads it if it is not resident. Waits no longer than an
    /// invocation may take.
    async fn get_or_load(
        &self,
        target: &CatalogEntry,
        timeout: Option<Duration>,
        since: Instant,
    ) -> Result<(Arc<Function>, Start), Error> {
        let load = async { Ok::<_, LoadError>(target.spec()) };
        // The tier in which it would have started is not known if this fails.
        let mut unknown = Start { tier: Tier::Cold, phases: Default::default() };
        let most = target.ungranted.limits.timeout;
        let most = timeout.map_or(most, |timeout| timeout.min(most));
        let Ok(loaded) = time::timeout(most, self.pool.get_or_load(target.key, load)).await else {
            self.metrics.record(target, "load-timeout", &mut unknown, since);
            return Err(Error::LoadTimeout(most));
        };
        match loaded {
            Ok((function, start)) => {
                target.resident.set(&function, Instant::now());
                Ok((function, start))
            }
            Err(error) => {
                let digest = store::Digest::from_bytes(target.ungranted.digest.0);
                self.quarantine.suspect(&error, digest);
                self.metrics.record(target, "load-failed", &mut unknown, since);
                Err(Error::Load(error))
            }
        }
    }
}
