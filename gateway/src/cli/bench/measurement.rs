//! Starts functions from each tier, in this process, with the gateway's own pool.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use prometheus::Registry;
use runtime_pool::{
    Function, FunctionCall, FunctionKey, FunctionSpec, InvocationContext, Kind, LoadError, LogLine,
    Phase, Pool, PoolMetrics, RequestBody, Start, Tier, Uploader,
};
use tokio::sync::mpsc;

use crate::{
    app,
    cli::{
        bench::{
            report::{MedianPhase, Row},
            rounds::{Plan, Used},
            statistics::median,
            subject::Subject,
        },
        client::transport::causes,
        failure::Failure,
    },
    config::Config,
};

/// The host of the requests.
const HOST: &str = "bench.localhost";
/// The pause after a function was dropped. Another thread unmaps its code, and must not do so during
/// the next load, which is timed.
const UNMAPPING: Duration = Duration::from_millis(1);
/// The time to make a warm instance. The measurement fails after it.
const WARM_DEADLINE: Duration = Duration::from_secs(20);

/// The request that functions get.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Option<Bytes>,
}

/// A pool with the default settings of `mayfly serve`.
pub(crate) struct Bench {
    pool: Pool,
    question: Question,
    /// Guests' output, which is not read: the pool drops lines that do not fit.
    _logs: mpsc::Receiver<LogLine>,
}

/// The time to the first byte of one response.
struct Sample {
    total: Duration,
    start: Start,
}

/// The samples of one function from one tier.
pub(crate) struct Series<'a> {
    subject: &'a Subject,
    kind: Kind,
    tier: Tier,
    used: Used,
    rounds_us: Vec<Vec<f64>>,
    phases_us: [Vec<f64>; Phase::ALL.len()],
}

impl Bench {
    /// `code_dir` is the directory of native code.
    pub(crate) fn new(code_dir: &Path, question: Question) -> Result<Self, Failure> {
        let failed = |error: anyhow::Error| Failure::failed(format!("{error:#}"));
        let mut config = app::pool_config::pool_config(&Config::default()).map_err(failed)?;
        config.compile.dir = code_dir.to_owned();
        let metrics = PoolMetrics::register(&Registry::new()).map_err(|e| failed(e.into()))?;
        let (sender, logs) = mpsc::channel(1_024);
        let pool = Pool::new(config, sender, metrics).map_err(|error| failed(error.into()))?;
        Ok(Self { pool, question, _logs: logs })
    }

    /// Compiles a function if necessary, and makes an instance, as a deploy does.
    pub(crate) async fn prepare(&self, subject: &Subject) -> Result<Kind, Failure> {
        let inspection = self.pool.validate(subject.spec.clone(), Uploader::default()).await;
        Ok(inspection.map_err(|error| about(subject, &causes(&error)))?.kind)
    }

    /// Measures one start from `tier`.
    async fn sample(&self, subject: &Subject, tier: Tier) -> Result<Sample, Failure> {
        let (key, spec) = resident_for(subject, tier);
        match tier {
            Tier::Frozen => {
                self.forget(subject).await?;
                self.pool.forget_artifact(subject.spec.digest).await;
            }
            Tier::Cold => self.forget(subject).await?,
            Tier::Loaded => {}
            Tier::Warm => self.make_warm(subject).await?,
        }
        let request = self.question.request()?;
        let began = Instant::now();
        let (function, start) = self.load(subject, key, spec).await?;
        let answered =
            function.invoke(FunctionCall::new(request, caller()), start, Instant::now()).await;
        let (response, start) = answered.map_err(|error| about(subject, &causes(&error)))?;
        let status = response.status();
        let mut body = response.into_body();
        let first = body.frame().await.transpose();
        let total = began.elapsed();

        first.map_err(|error| about(subject, &causes(&error)))?;
        body.collect().await.map_err(|error| about(subject, &causes(&error)))?;
        if status != StatusCode::OK {
            let Question { method, path, .. } = &self.question;
            let why = format!("answered {status} to {method} {path}; only a 200 is measured");
            return Err(about(subject, &why)
                .note("hint: change the request with --path, --method, --header and --data"));
        }
        if start.tier != tier {
            let why = format!("started {}, not {}", start.tier.as_str(), tier.as_str());
            return Err(about(subject, &why));
        }
        Ok(Sample { total, start })
    }

    async fn load(
        &self,
        subject: &Subject,
        key: FunctionKey,
        spec: FunctionSpec,
    ) -> Result<(Arc<Function>, Start), Failure> {
        let loaded = self.pool.get_or_load(key, async { Ok::<_, LoadError>(spec) }).await;
        loaded.map_err(|error| about(subject, &causes(&error)))
    }

    /// Makes a warm instance.
    async fn make_warm(&self, subject: &Subject) -> Result<(), Failure> {
        let (key, spec) = resident_for(subject, Tier::Warm);
        let (function, _) = self.load(subject, key, spec).await?;
        let warm = async {
            while function.warm_instances() == 0 {
                function.keep_warm(1);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WARM_DEADLINE, warm)
            .await
            .map_err(|_| about(subject, "no warm instance can be made"))
    }

    /// Evicts a function, and waits until it has left memory.
    async fn forget(&self, subject: &Subject) -> Result<(), Failure> {
        let (key, spec) = resident_for(subject, Tier::Cold);
        let function = Arc::downgrade(&self.load(subject, key, spec).await?.0);
        self.pool.evict(&key).await;
        // The pool drops evicted functions later, in another task.
        while function.strong_count() > 0 {
            self.pool.tidy().await;
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(UNMAPPING).await;
        Ok(())
    }
}

impl<'a> Series<'a> {
    pub(crate) fn new(subject: &'a Subject, kind: Kind, tier: Tier) -> Self {
        let used = Used::default();
        Self { subject, kind, tier, used, rounds_us: Vec::new(), phases_us: Default::default() }
    }

    /// Takes the samples of one round. Returns whether there were any.
    pub(crate) async fn round(&mut self, bench: &Bench, plan: &Plan) -> Result<bool, Failure> {
        if !plan.goes_on(self.used) {
            return Ok(false);
        }
        // Not measured: other rows have changed the caches of the machine since the last round.
        let unmeasured = match self.tier {
            Tier::Frozen => 0,
            Tier::Cold => 1,
            Tier::Loaded | Tier::Warm => {
                let (key, spec) = resident_for(self.subject, self.tier);
                bench.load(self.subject, key, spec).await?;
                3
            }
        };
        for _ in 0..unmeasured {
            bench.sample(self.subject, self.tier).await?;
        }
        let started = Instant::now();
        let mut samples_us = Vec::new();
        while plan.another(samples_us.len(), started.elapsed()) {
            let sample = bench.sample(self.subject, self.tier).await?;
            samples_us.push(us(sample.total));
            for (phase, took) in sample.start.phases.iter() {
                self.phases_us[phase as usize].push(us(took));
            }
        }
        self.rounds_us.push(samples_us);
        self.used.rounds += 1;
        self.used.time += started.elapsed();
        Ok(true)
    }

    /// The row of the report.
    pub(crate) fn into_row(self) -> Row {
        let measured =
            Phase::ALL.iter().zip(&self.phases_us).filter(|(_, times)| !times.is_empty());
        let phases = measured.map(|(phase, times)| MedianPhase {
            name: phase.as_str().to_owned(),
            median_us: median(times),
        });
        Row {
            name: self.subject.name.clone(),
            digest: self.subject.digest(),
            kind: self.kind.as_str().to_owned(),
            tier: self.tier.as_str().to_owned(),
            phases: phases.collect(),
            rounds_us: self.rounds_us,
        }
    }
}

impl Question {
    fn request(&self) -> Result<Request<RequestBody>, Failure> {
        let mut request = Request::new(match &self.body {
            None => RequestBody::Empty,
            Some(bytes) => {
                let body = Full::new(bytes.clone()).map_err(|never| match never {});
                RequestBody::Stream(body.boxed_unsync())
            }
        });
        *request.method_mut() = self.method.clone();
        let target = format!("http://{HOST}{}", self.path);
        *request.uri_mut() =
            target.parse().map_err(|_| Failure::usage(format!("`{}` is not a path", self.path)))?;
        request.headers_mut().insert(header::HOST, HeaderValue::from_static(HOST));
        request.headers_mut().extend(self.headers.iter().cloned());
        Ok(request)
    }
}

fn caller() -> InvocationContext {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    InvocationContext {
        invocation: 1,
        peer,
        https: false,
        mount: "".into(),
        cdn_loop: None,
        others: 0,
        timeout: None,
    }
}

/// The key of the resident function for starts from `tier`. Warm starts have a function of their own,
/// because the others must not find a warm instance.
fn resident_for(subject: &Subject, tier: Tier) -> (FunctionKey, FunctionSpec) {
    let (revision, max_warm) = match tier {
        Tier::Warm => (subject.key.revision + 1, 1),
        Tier::Frozen | Tier::Cold | Tier::Loaded => (subject.key.revision, 0),
    };
    let key = FunctionKey { revision, ..subject.key };
    (key, FunctionSpec { max_warm, ..subject.spec.clone() })
}

/// Microseconds, rounded to the hundredth: more digits are noise and make files larger.
fn us(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e8).round() / 100.0
}

fn about(subject: &Subject, why: &str) -> Failure {
    Failure::failed(format!("{}: {why}", subject.name))
}
