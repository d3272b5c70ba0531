//! One resident function: one revision, linked, with its slots.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time,
};

use crate::{
    ArtifactDigest, HostPattern, InvokeError, Limits,
    call::{Caller, Head, Request, Response},
    executor::{
        cgi::{self, Command},
        cgi_environment, http, http_async,
    },
    guest_log::{FunctionLog, InvocationLog},
    host::{self, Control, Host},
    invocation::{Drive, Occupancy, drive},
    link::Linked,
    metrics::{GaugeGuard, PoolMetrics},
    outbound::{Outbound, Policy},
    run::{Metered, Phases, Run},
};

/// What a revision is made of: everything the pool needs to make it resident.
#[derive(Clone, Debug)]
pub struct Source {
    /// Names the artifact.
    pub digest: ArtifactDigest,
    /// Where the artifact is.
    pub artifact: PathBuf,
    /// The function's label in metrics, chosen so that there are not too many.
    pub label: Arc<str>,
    /// What holds for its invocations.
    pub limits: Limits,
    /// Environment variables of its guests.
    pub environment: Vec<(String, String)>,
    /// Hosts that its guests may call.
    pub outbound: Vec<HostPattern>,
}

/// How much of a function is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing but its row and its files exist.
    Cold,
    /// Its code is in memory.
    Loaded,
    /// Its code is in memory and at least one instance waits.
    Warm,
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Loaded => "loaded",
            Self::Warm => "warm",
        }
    }
}

/// A function whose code is in memory.
///
/// Invariant: a `Function` serves exactly one revision; a new revision is a new `Function`, so
/// nothing in here is ever updated.
pub struct Function {
    code: Option<Linked>,
    code_bytes: u64,
    limits: Limits,
    environment: Vec<(String, String)>,
    policy: Arc<Policy>,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    log: Arc<FunctionLog>,
    metrics: PoolMetrics,
    cpu_seconds: prometheus::Counter,
    graveyard: mpsc::Sender<Linked>,
}

impl Function {
    #[expect(clippy::too_many_arguments, reason = "called once, by the pool, which has them all")]
    pub(crate) fn new(
        code: Linked,
        code_bytes: u64,
        source: Source,
        policy: Policy,
        log: FunctionLog,
        cpu_seconds: prometheus::Counter,
        metrics: PoolMetrics,
        graveyard: mpsc::Sender<Linked>,
    ) -> Self {
        metrics.resident_functions.inc();
        metrics.resident_bytes.add(code_bytes as f64);
        Self {
            code: Some(code),
            code_bytes,
            slots: Arc::new(Semaphore::new(source.limits.concurrency)),
            limits: source.limits,
            environment: source.environment,
            policy: Arc::new(policy),
            waiting: AtomicUsize::new(0),
            log: Arc::new(log),
            metrics,
            cpu_seconds,
            graveyard,
        }
    }

    /// Bytes of native code.
    pub(crate) fn code_bytes(&self) -> u64 {
        self.code_bytes
    }

    /// What holds for its invocations.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn code(&self) -> &Linked {
        self.code.as_ref().expect("the code leaves only when the function is dropped")
    }

    /// Calls the function once, on a fresh instance.
    pub async fn invoke(
        self: &Arc<Self>,
        request: Request,
        caller: Caller,
    ) -> Result<(Response, Phases), InvokeError> {
        let invocation = caller.invocation;
        let result = self.admit_and_run(request, caller).await;
        match &result {
            Ok((_, phases)) => {
                self.metrics.instantiate_seconds.observe(phases.instantiate.as_secs_f64());
                self.metrics.guest_seconds.observe(phases.guest.as_secs_f64());
            }
            Err(error) => {
                if let Some(limit) = error.limit() {
                    self.metrics.limit_hit(limit);
                }
                // Nobody's log grows because many callers wait for one function.
                if error.fault() == crate::Fault::Function {
                    self.log.system(invocation, &error.to_string());
                }
            }
        }
        result
    }

    async fn admit_and_run(
        self: &Arc<Self>,
        request: Request,
        caller: Caller,
    ) -> Result<(Response, Phases), InvokeError> {
        let slot = self.slot().await?;
        let run = Arc::new(Run::default());
        let occupancy = Occupancy {
            _slot: slot,
            _live: GaugeGuard::new(&self.metrics.live_instances),
            run: Arc::clone(&run),
            cpu_seconds: self.cpu_seconds.clone(),
        };
        let (sender, head) = oneshot::channel();
        let drive_guest = Drive {
            limits: &self.limits,
            metrics: &self.metrics,
            occupancy,
            log: Arc::clone(&self.log),
            invocation: caller.invocation,
        };
        let guest = Box::pin(Arc::clone(self).run(request, caller, sender, run));
        drive(guest, head, drive_guest).await
    }

    /// A slot: at once, or after a wait in a bounded queue.
    async fn slot(&self) -> Result<OwnedSemaphorePermit, InvokeError> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        let _place = QueuePlace::join(&self.waiting, self.limits.queue)?;
        let _waiting = GaugeGuard::new(&self.metrics.waiting_invocations);
        let slot = Arc::clone(&self.slots).acquire_owned();
        time::timeout(self.limits.queue_wait, slot)
            .await
            .map_err(|_| InvokeError::Concurrency)?
            .map_err(|_| InvokeError::Concurrency)
    }

    /// The guest's whole life. Holds the function, so that its code outlives the instance.
    async fn run(
        self: Arc<Self>,
        request: Request,
        caller: Caller,
        head: oneshot::Sender<Head>,
        run: Arc<Run>,
    ) -> Result<(), InvokeError> {
        let control = Control::new(&self.limits, Arc::clone(&run));
        let outbound = Outbound::new(Arc::clone(&self.policy));
        let log =
            InvocationLog::new(Arc::clone(&self.log), caller.invocation, self.limits.log_bytes);
        match self.code() {
            Linked::Http(pre) => {
                let wasi = host::wasi(&self.environment, &log).build();
                let host = Host::new(wasi, outbound, control);
                http::run(pre, host, request, head, run).await
            }
            Linked::HttpAsync(pre) => {
                let wasi = host::wasi(&self.environment, &log).build();
                let host = Host::new(wasi, outbound, control);
                http_async::run(pre, host, request, head, run).await
            }
            code @ (Linked::Command(_) | Linked::Module(_)) => {
                let (parts, body) = request.into_parts();
                let environment = cgi_environment::environment(&parts, &caller, &self.environment);
                let mut wasi = host::wasi(&environment, &log);
                wasi.args(&cgi_environment::arguments(&parts));
                let command = Command { wasi, control, outbound, body, head, run };
                match code {
                    Linked::Command(pre) => cgi::run_component(pre, command).await,
                    Linked::Module(pre) => cgi::run_module(pre, command).await,
                    Linked::Http(_) | Linked::HttpAsync(_) => unreachable!("matched above"),
                }
            }
        }
    }

    /// Makes an instance and drops it: whatever would fail in every invocation fails here.
    pub(crate) async fn smoke(self: Arc<Self>) -> Result<(), InvokeError> {
        let run = Arc::new(Run::default());
        let control = Control::new(&self.limits, Arc::clone(&run));
        let log = InvocationLog::new(Arc::clone(&self.log), 0, self.limits.log_bytes);
        let wasi = host::wasi(&self.environment, &log);
        let outbound = Outbound::new(Arc::clone(&self.policy));
        let limit = self.limits.timeout.min(SMOKE);
        let function = Arc::clone(&self);
        let smoke = Box::pin(async move { function.code().smoke(wasi, outbound, control).await });
        time::timeout(limit, Metered::new(smoke, Arc::clone(&run)))
            .await
            .unwrap_or(Err(InvokeError::Timeout(limit)))
    }
}

/// How long an instance may take to start when it is tried at a deploy.
const SMOKE: Duration = Duration::from_secs(10);

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.metrics.resident_functions.dec();
        self.metrics.resident_bytes.sub(self.code_bytes as f64);
        if let Some(code) = self.code.take() {
            // Unmapping megabytes takes long: not here, where an async worker may be waiting.
            // If the reaper is gone the process ends, and so does the code.
            let _ = self.graveyard.send(code);
        }
    }
}

/// A place in a function's queue; given up when dropped.
struct QueuePlace<'a>(&'a AtomicUsize);

impl<'a> QueuePlace<'a> {
    fn join(waiting: &'a AtomicUsize, max: usize) -> Result<Self, InvokeError> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Relaxed) < max { Ok(place) } else { Err(InvokeError::Concurrency) }
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
