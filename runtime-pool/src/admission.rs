//! May this invocation run, and when?
//!
//! The gates between a call and its guest: concurrency slots of the function, the node's queue,
//! the run queue while all processors are busy, the reserve of instances, and the background
//! runtime for guests that compute for long.

pub(crate) mod background;
pub(crate) mod instance_reserve;
pub(crate) mod queue_estimate;
pub(crate) mod run_queue;
pub(crate) mod slots;

use std::sync::Arc;

use crate::admission::{
    background::BackgroundScheduler, instance_reserve::InstanceReserve,
    queue_estimate::QueueDelayEstimate, run_queue::RunQueue, slots::Slots,
};

/// The gates of one function.
pub(crate) struct Admission {
    pub(crate) slots: Slots,
    pub(crate) queue_delay: QueueDelayEstimate,
    /// Shared by all functions of the node.
    pub(crate) run_queue: Arc<RunQueue>,
    pub(crate) background: BackgroundScheduler,
    /// `None` where the engine has no pool of instances.
    pub(crate) reserve: Option<InstanceReserve>,
}
