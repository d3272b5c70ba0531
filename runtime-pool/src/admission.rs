//! May this invocation run, and when?
//!
//! The gates between a call and its guest: concurrency slots of the function, the node's queue,
//! the run queue while all processors are busy, and the background runtime for guests that
//! compute for long.

pub(crate) mod background;
pub(crate) mod queue_estimate;
pub(crate) mod run_queue;
pub(crate) mod slots;
