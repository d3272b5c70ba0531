//! State that all functions of a node share.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use crate::{
    LogLine, PoolMetrics, StartError,
    admission::{
        Admission,
        background::BackgroundRuntime,
        instance_reserve::InstanceReserve,
        queue_estimate::QueueDelayEstimate,
        run_queue::RunQueue,
        slots::{NodeQueue, Slots},
    },
    engine::EngineSlots,
    executor::{
        cgi::buffer::BodyBuffers,
        spec::FunctionSpec,
        template::{InstanceTemplate, NodeParts},
    },
    host::{
        capabilities::{
            function::{FunctionCapabilities, GrantedFunction, NodeCapabilities},
            stores::NodeStores,
        },
        files::mounted::MountedFiles,
        instance::PreInstance,
    },
    limits::{GuestLimits, NodeMemory},
    metrics::{
        guest_log::{FunctionKey, FunctionLog},
        start::Tier,
    },
    outbound::{OutboundClient, Policy, PolicySettings},
    pool::{config::PoolConfig, file_trees::FileTrees, function::Function, statistics::Statistics},
    warm::{WarmBudget, WarmSet},
};

/// What loading a function has brought.
pub(super) struct LoadedParts {
    pub(super) code: PreInstance,
    /// The files that the function is given.
    pub(super) files: Option<Arc<MountedFiles>>,
    /// Bytes of its native code.
    pub(super) code_bytes: u64,
    /// From where its native code came.
    pub(super) origin: Tier,
}

/// Everything that each resident function gets from the node.
pub(super) struct NodeShared {
    pub(super) client: Arc<OutboundClient>,
    pub(super) background: BackgroundRuntime,
    pub(super) run_queue: Arc<RunQueue>,
    pub(super) warm: Arc<WarmBudget>,
    pub(super) metrics: PoolMetrics,
    queue: Arc<NodeQueue>,
    pub(super) memory: NodeMemory,
    /// The trees of files that functions are given.
    pub(super) trees: FileTrees,
    /// The stores that guests may be granted.
    pub(super) stores: Arc<NodeStores>,
    buffers: Arc<BodyBuffers>,
    guest: GuestLimits,
    slots: EngineSlots,
    logs: tokio::sync::mpsc::Sender<LogLine>,
    reaper: mpsc::Sender<PreInstance>,
}

impl NodeShared {
    /// Starts the threads of the background runtime and the thread that unmaps code.
    pub(super) fn start(
        config: &PoolConfig,
        logs: tokio::sync::mpsc::Sender<LogLine>,
        metrics: PoolMetrics,
    ) -> Result<Self, StartError> {
        Ok(Self {
            client: Arc::new(OutboundClient::new(config.outbound.clone(), metrics.clone())?),
            background: BackgroundRuntime::start()?,
            run_queue: Arc::new(RunQueue::new(
                config.max_lag,
                metrics.scheduling_delay_seconds.clone(),
            )),
            warm: Arc::new(WarmBudget::new(&config.warm, metrics.clone())),
            queue: Arc::new(NodeQueue::new(config.queue)),
            memory: NodeMemory::new(config.memory_bytes, metrics.memory_bytes.clone()),
            buffers: Arc::new(BodyBuffers::new(
                config.buffers.clone(),
                metrics.buffered_body_bytes.clone(),
            )),
            trees: FileTrees::new(metrics.clone()),
            stores: Arc::default(),
            guest: config.engine.guest,
            slots: EngineSlots::new(&config.engine),
            logs,
            reaper: reaper()?,
            metrics,
        })
    }

    /// Assembles a resident function.
    pub(super) fn function(
        &self,
        key: FunctionKey,
        spec: FunctionSpec,
        parts: LoadedParts,
    ) -> Function {
        let LoadedParts { code, files, code_bytes, origin } = parts;
        let limits = &spec.limits;
        let admission = Admission {
            slots: Slots::new(
                limits.concurrency,
                limits.queue,
                Arc::clone(&self.queue),
                limits.queue_wait,
            ),
            queue_delay: QueueDelayEstimate::default(),
            run_queue: Arc::clone(&self.run_queue),
            background: self.background.scheduler(),
            reserve: InstanceReserve::new(code.engine(), self.slots),
        };
        let statistics = Statistics::new(self.metrics.clone(), &spec.label, code_bytes, origin);
        let settings = PolicySettings {
            tenant: Arc::clone(&spec.tenant),
            name: Arc::clone(&spec.name),
            label: Arc::clone(&spec.label),
            granted: spec.outbound.clone(),
            credentials: spec.credentials.clone(),
        };
        let policy = Policy::new(Arc::clone(&self.client), settings);
        let capabilities = spec.capabilities.clone().map(|grants| {
            let (tenant, name) = (Arc::clone(&spec.tenant), Arc::clone(&spec.name));
            let function = GrantedFunction { tenant, name, label: Arc::clone(&spec.label) };
            let node = NodeCapabilities {
                stores: Arc::clone(&self.stores),
                client: Arc::clone(&self.client),
                metrics: self.metrics.clone(),
            };
            Arc::new(FunctionCapabilities::new(grants, function, node, &self.guest))
        });
        let log = FunctionLog::new(key, self.logs.clone(), &self.guest, self.metrics.clone());
        let node = NodeParts {
            memory: self.memory.clone(),
            buffers: Arc::clone(&self.buffers),
            reaper: self.reaper.clone(),
        };
        let (code, may_reach) = ((code, files), (policy, capabilities));
        let template = Arc::new(InstanceTemplate::new(spec, code, may_reach, log, node));
        let (budget, cpu_seconds) = (Arc::clone(&self.warm), statistics.cpu_seconds.clone());
        let warm = Arc::new(WarmSet::new(Arc::clone(&template), budget, cpu_seconds));
        Function { template, warm, admission, statistics }
    }
}

/// Starts a thread that drops code, which unmaps it. The thread ends when the pool and the last
/// function are gone.
fn reaper() -> Result<mpsc::Sender<PreInstance>, StartError> {
    let (reaper, arrivals) = mpsc::channel::<PreInstance>();
    thread::Builder::new()
        .name("mayfly-reaper".into())
        .spawn(move || arrivals.into_iter().for_each(drop))
        .map_err(|cause| StartError { what: "starting the reaper", cause: cause.into() })?;
    Ok(reaper)
}
