//! What does the process say about itself?

pub(crate) mod guest_logs;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod request_id;
