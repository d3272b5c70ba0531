//! The gateway's log, metrics and request ids, and the log lines of guests.

pub(crate) mod guest_logs;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod request_id;
