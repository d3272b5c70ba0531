//! One resident function: one revision, linked, with its slots.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time};
use wasmtime_wasi::WasiCtxBuilder;

use crate::{
    ArtifactDigest, Credential, Grant, InvokeError, Isolation, Limits,
    admission::{
        background::BackgroundLane,
        queue_estimate::QueueDelayEstimate,
        run_queue::RunQueue,
        slots::{NoSlot, NodeQueue, Slots},
    },
    code::key::{CodeKey, StartUp},
    executor::{
        cgi::{self, environment},
        http, http_async,
        request::{Head, InvocationContext, Request},
    },
    host::{
        self, Host, ModuleHost, StoreLimits,
        instance::{AnyGuest, Instance, PreInstance},
        invocation_state::{FailOnDrop, InvocationState, Metered},
    },
    invocation::{RunToResponse, drive, response_body::Response},
    limits::NodeMemory,
    metrics::{
        GaugeGuard, PoolMetrics,
        guest_log::{FunctionLog, InvocationLog},
        start::{Phase, Start, Tier},
    },
    outbound::{Outbound, Policy},
    warm::{WarmBudget, WarmSet},
};

/// What a revision is made of: everything the pool needs to make it resident.
#[derive(Clone, Debug)]
pub struct FunctionSpec {
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
    /// What its guests may call.
    pub outbound: Vec<Grant>,
    /// Secrets that are put into their requests.
    pub credentials: Vec<Credential>,
    /// What its invocations share.
    pub isolation: Isolation,
    /// Instances that may wait for a call.
    pub max_warm: usize,
    /// The export that is called once, at the deploy, so that every instance starts from what it
    /// leaves.
    pub snapshot: Option<Arc<str>>,
}

impl FunctionSpec {
    /// The native code that it needs.
    pub(crate) fn code_key(&self) -> CodeKey {
        let memory_bytes = self.limits.memory_bytes as u64;
        let start_up =
            |function: &Arc<str>| StartUp { function: Arc::clone(function), memory_bytes };
        CodeKey { digest: self.digest, start_up: self.snapshot.as_ref().map(start_up) }
    }
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
    code: Option<PreInstance>,
    code_bytes: u64,
    origin: Tier,
    limits: Limits,
    isolation: Isolation,
    max_waiting: usize,
    environment: Vec<(String, String)>,
    policy: Arc<Policy>,
    slots: Slots,
    queue_wait: QueueDelayEstimate,
    turns: Arc<RunQueue>,
    waiting: WarmSet,
    log: Arc<FunctionLog>,
    lane: Arc<BackgroundLane>,
    /// The node's, of which its instances take.
    memory: NodeMemory,
    /// What its guests' clocks count from.
    since: Instant,
    metrics: PoolMetrics,
    cpu_seconds: prometheus::Counter,
    graveyard: mpsc::Sender<PreInstance>,
}

/// What the pool gives to each of its functions.
pub(crate) struct NodeShared {
    pub(crate) policy: Policy,
    pub(crate) log: FunctionLog,
    pub(crate) lane: BackgroundLane,
    pub(crate) budget: Arc<WarmBudget>,
    pub(crate) line: Arc<NodeQueue>,
    pub(crate) turns: Arc<RunQueue>,
    pub(crate) memory: NodeMemory,
    pub(crate) metrics: PoolMetrics,
    /// Where code goes that nobody needs any more.
    pub(crate) graveyard: mpsc::Sender<PreInstance>,
}

impl Function {
    pub(crate) fn new(
        code: PreInstance,
        code_bytes: u64,
        origin: Tier,
        source: FunctionSpec,
        surroundings: NodeShared,
    ) -> Self {
        let NodeShared { policy, log, lane, budget, line, turns, memory, metrics, graveyard } =
            surroundings;
        metrics.resident_functions.inc();
        metrics.resident_bytes.add(code_bytes as f64);
        Self {
            code: Some(code),
            code_bytes,
            origin,
            slots: Slots::new(
                source.limits.concurrency,
                source.limits.queue,
                line,
                source.limits.queue_wait,
            ),
            queue_wait: QueueDelayEstimate::default(),
            turns,
            limits: source.limits,
            isolation: source.isolation,
            max_waiting: source.max_warm,
            environment: source.environment,
            policy: Arc::new(policy),
            waiting: WarmSet::new(budget),
            log: Arc::new(log),
            cpu_seconds: metrics.cpu_seconds.with_label_values(&[&*source.label]),
            lane: Arc::new(lane),
            memory,
            since: Instant::now(),
            metrics,
            graveyard,
        }
    }

    /// Bytes of native code.
    pub(crate) fn code_bytes(&self) -> u64 {
        self.code_bytes
    }

    /// From how far it came into memory.
    pub(crate) fn origin(&self) -> Tier {
        self.origin
    }

    /// What holds for its invocations.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Instances that wait for a call.
    pub fn warm_instances(&self) -> usize {
        self.waiting.count()
    }

    /// Invocations that run now.
    pub fn running_invocations(&self) -> usize {
        self.slots.taken()
    }

    pub(crate) fn waiting(&self) -> &WarmSet {
        &self.waiting
    }

    fn code(&self) -> &PreInstance {
        self.code.as_ref().expect("the code leaves only when the function is dropped")
    }

    /// Calls the function once. `start` says what was done for that already, `now` what time it is
    /// or was a moment ago.
    pub async fn invoke(
        self: &Arc<Self>,
        request: Request,
        caller: InvocationContext,
        start: Start,
        now: Instant,
    ) -> Result<(Response, Start), InvokeError> {
        let invocation = caller.invocation;
        let result = self.admit_and_run(request, caller, start, now).await;
        match &result {
            Ok((_, start)) => self.note_demand(start),
            Err(error) => {
                if let Some(limit) = error.limit() {
                    self.metrics.limit_ended(limit);
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
        caller: InvocationContext,
        mut start: Start,
        now: Instant,
    ) -> Result<(Response, Start), InvokeError> {
        let invocation = caller.invocation;
        let slot = self.take_slot(&mut start).await?;
        self.take_turn(now, &mut start).await;
        let run = Arc::new(InvocationState::default());
        let occupancy = InvocationGuard::new(slot, Arc::clone(&run));
        let (sender, head) = oneshot::channel();
        let guest = Box::pin(Arc::clone(self).run(request, caller, sender, run));
        let function = Arc::clone(self);
        let driven = async move {
            let drive_guest = RunToResponse {
                limits: &function.limits,
                metrics: &function.metrics,
                log: &function.log,
                lane: &function.lane,
                occupancy,
                invocation,
                start,
            };
            drive(guest, head, drive_guest).await
        };
        self.lane.run(driven).await
    }

    /// Takes a slot: at once, or after a wait in a bounded queue.
    async fn take_slot(self: &Arc<Self>, start: &mut Start) -> Result<Slot, InvokeError> {
        if self.slots.take() {
            return Ok(Slot(Arc::clone(self)));
        }
        let full = |reason| match reason {
            NoSlot::Function => InvokeError::Concurrency,
            NoSlot::Node => InvokeError::Queue,
        };
        let place = self.slots.join_queue().map_err(full)?;
        let ahead = place.ahead;
        if self.queue_wait.expected(ahead) > self.limits.queue_wait {
            return Err(InvokeError::Concurrency);
        }
        let _waiting = GaugeGuard::new(&self.metrics.waiting_invocations);
        let since = Instant::now();
        let slot = place.slot().await.map(|()| Slot(Arc::clone(self)));
        let waited = since.elapsed();
        self.queue_wait.note(ahead, waited);
        start.phases.add(Phase::Queue, waited);
        slot.map_err(full)
    }

    /// Waits for a turn while the processors are busy. Guests that compute for long have threads
    /// of their own.
    async fn take_turn(&self, now: Instant, start: &mut Start) {
        let turns = &self.turns;
        if turns.is_busy(now) && !self.lane.was_long() && !turns.try_take() {
            let since = Instant::now();
            turns.take().await;
            start.phases.add(Phase::Queue, since.elapsed());
        }
    }

    /// Accounts for what an invocation has used.
    fn leave(&self, run: &InvocationState) {
        self.cpu_seconds.inc_by(run.meter.used().as_secs_f64());
        run.refused().for_each(|limit| self.metrics.limit_hit(limit));
        self.metrics.live_instances.dec();
    }

    /// The guest's whole life. Holds the function, so that its code outlives the instance.
    async fn run(
        self: Arc<Self>,
        request: Request,
        caller: InvocationContext,
        head: oneshot::Sender<Head>,
        run: Arc<InvocationState>,
    ) -> Result<(), InvokeError> {
        let mut instance = self.instance(&run, caller.invocation).await?;
        if let Some(trail) = &caller.trail {
            instance.set_trail(trail.clone());
        }
        // Declared after the instance, so that it is dropped before it.
        let outcome = FailOnDrop::new(&run.outcome);
        match &mut instance.guest {
            AnyGuest::Http(guest) => http::call(guest, request, head).await,
            AnyGuest::HttpAsync(guest) => http_async::call(guest, request, head).await,
            AnyGuest::Command(guest) => {
                cgi::call_component(guest, self.cgi_given(request, &caller, head)).await
            }
            AnyGuest::Module(guest) => {
                cgi::call_module(guest, self.cgi_given(request, &caller, head)).await
            }
        }?;
        outcome.done();
        self.keep(instance);
        Ok(())
    }

    /// An instance: one that waits, or a new one.
    async fn instance(
        self: &Arc<Self>,
        run: &Arc<InvocationState>,
        invocation: u128,
    ) -> Result<Instance, InvokeError> {
        if let Some(mut instance) = self.waiting.take() {
            instance.begin(Arc::clone(run), invocation, self.limits.log_bytes);
            return Ok(instance);
        }
        let since = Instant::now();
        let instance = match self.make(run, invocation).await {
            // Those that wait for others are worth less than one that is needed now.
            Err(InvokeError::Instances | InvokeError::NodeMemory)
                if self.waiting.budget().release() =>
            {
                self.make(run, invocation).await
            }
            other => other,
        }?;
        run.instantiated(since);
        Ok(instance)
    }

    /// Makes an instance.
    async fn make(
        &self,
        run: &Arc<InvocationState>,
        invocation: u128,
    ) -> Result<Instance, InvokeError> {
        let control = StoreLimits::new(&self.limits, self.memory.clone(), Arc::clone(run));
        let log = InvocationLog::new(Arc::clone(&self.log), invocation, self.limits.log_bytes);
        let mut wasi = self.wasi(&self.environment, &log);
        let host = |mut wasi: WasiCtxBuilder, control| {
            let outbound = Outbound::new(Arc::clone(&self.policy), Arc::clone(&log));
            Host::new(wasi.build(), outbound, control)
        };
        let guest = match self.code() {
            PreInstance::Http(pre) => AnyGuest::Http(http::make(pre, host(wasi, control)).await?),
            PreInstance::HttpAsync(pre) => {
                AnyGuest::HttpAsync(http_async::make(pre, host(wasi, control)).await?)
            }
            PreInstance::Command(pre) => {
                AnyGuest::Command(cgi::make_component(pre, host(wasi, control)).await?)
            }
            PreInstance::Module(pre) => {
                let host = ModuleHost::new(wasi.build_p1(), control);
                AnyGuest::Module(cgi::make_module(pre, host).await?)
            }
        };
        Ok(Instance::new(guest, log))
    }

    /// A request as a command sees it: as its environment, its arguments and its streams.
    fn cgi_given(
        &self,
        request: Request,
        caller: &InvocationContext,
        head: oneshot::Sender<Head>,
    ) -> cgi::Given {
        let (parts, body) = request.into_parts();
        let environment = environment::environment(&parts, caller, &self.environment);
        let log =
            InvocationLog::new(Arc::clone(&self.log), caller.invocation, self.limits.log_bytes);
        let mut wasi = self.wasi(&environment, &log);
        wasi.args(&environment::arguments(&parts));
        cgi::Given { wasi, body, head }
    }

    fn wasi(&self, environment: &[(String, String)], log: &Arc<InvocationLog>) -> WasiCtxBuilder {
        host::wasi(environment, log, &self.limits.guest, self.since)
    }

    /// Lets an instance wait for its next call, where the owner has chosen that.
    fn keep(self: &Arc<Self>, mut instance: Instance) {
        let Isolation::Reuse { max_uses, .. } = self.isolation else { return };
        instance.uses += 1;
        if instance.uses >= max_uses {
            return;
        }
        instance.since = Instant::now();
        instance.end(Arc::clone(&self.policy));
        if self.waiting.put(instance) {
            self.waiting.watch(self);
        }
    }

    /// Lets instances wait where making one takes long: as many as are in use at once.
    fn note_demand(self: &Arc<Self>, start: &Start) {
        if let Some(took) = start.phases.get(Phase::Instantiate) {
            self.waiting.note_making(took);
        }
        if self.max_waiting == 0 || !self.waiting.is_worthwhile() {
            return;
        }
        // This one included, whose slot may have been given back already.
        let running = self.running_invocations().max(1);
        // With every processor busy there is no time to make instances beforehand.
        if running <= self.waiting.budget().processors() {
            self.waiting.in_use(running, self.max_waiting);
            self.refill();
        }
    }

    /// Lets at least so many instances wait from now on, whether anybody calls or not.
    pub fn keep_warm(self: &Arc<Self>, instances: usize) {
        self.waiting.set_floor(instances);
        self.refill();
    }

    /// Adjusts how many wait to what was asked for lately. Says whether any do, or shall.
    pub(crate) fn adjust_waiting(self: &Arc<Self>, now: Instant) -> bool {
        let idle = match self.isolation {
            Isolation::Request => None,
            Isolation::Reuse { idle, .. } => Some(idle),
        };
        let any = self.waiting.adjust(now, idle);
        self.refill();
        any
    }

    /// Makes instances that are missing, in a task of its own.
    fn refill(self: &Arc<Self>) {
        if !self.waiting.is_short() || !self.waiting.begin_making(self) {
            return;
        }
        let function = Arc::clone(self);
        // Nobody waits for it: it ends with its work, and a panic in it costs nothing but that.
        tokio::spawn(async move {
            let waiting = &function.waiting;
            let make = async || {
                let made = function.make_waiting().await;
                // Requests come first.
                tokio::task::yield_now().await;
                made
            };
            waiting.making().until_enough(|| waiting.is_short(), make).await;
        });
    }

    /// Makes one that waits. Says whether that went well.
    async fn make_waiting(self: &Arc<Self>) -> bool {
        let run = Arc::new(InvocationState::default());
        let function = Arc::clone(self);
        let making = Arc::clone(&run);
        let made = Box::pin(async move { function.make(&making, 0).await });
        let limit = self.limits.timeout.min(SMOKE);
        let made = time::timeout(limit, Metered::new(made, Arc::clone(&run))).await;
        self.cpu_seconds.inc_by(run.meter.used().as_secs_f64());
        match made.unwrap_or(Err(InvokeError::Timeout(limit))) {
            Ok(instance) => self.waiting.put(instance),
            // The node is full: those who need an instance now come first.
            Err(InvokeError::Instances | InvokeError::NodeMemory) => false,
            Err(error) => {
                self.waiting.give_up();
                self.log.system(0, &format!("making an instance that waits: {error}"));
                false
            }
        }
    }

    /// Makes an instance and drops it: whatever would fail in every invocation fails here.
    pub(crate) async fn smoke(self: Arc<Self>) -> Result<(), InvokeError> {
        let run = Arc::new(InvocationState::default());
        let limit = self.limits.timeout.min(SMOKE);
        let making = Arc::clone(&run);
        let smoke = Box::pin(async move { self.make(&making, 0).await.map(drop) });
        time::timeout(limit, Metered::new(smoke, run))
            .await
            .unwrap_or(Err(InvokeError::Timeout(limit)))
    }
}

/// How long an instance may take to start when nobody waits for it.
const SMOKE: Duration = Duration::from_secs(10);

/// What an invocation holds for as long as its guest works.
pub(crate) struct InvocationGuard {
    slot: Slot,
    pub(crate) run: Arc<InvocationState>,
}

impl InvocationGuard {
    fn new(slot: Slot, run: Arc<InvocationState>) -> Self {
        slot.0.metrics.live_instances.inc();
        Self { slot, run }
    }
}

impl Drop for InvocationGuard {
    fn drop(&mut self) {
        self.slot.0.leave(&self.run);
    }
}

/// A slot that was taken. Given back when dropped.
struct Slot(Arc<Function>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.slots.give_back();
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.metrics.resident_functions.dec();
        self.metrics.resident_bytes.sub(self.code_bytes as f64);
        self.waiting.clear();
        if let Some(code) = self.code.take() {
            // Unmapping megabytes takes long: not here, where an async worker may be waiting.
            // If the reaper is gone the process ends, and so does the code.
            let _ = self.graveyard.send(code);
        }
    }
}
