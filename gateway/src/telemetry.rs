//! The gateway's log, metrics, request ids and clock, and the log lines of guests.

pub(crate) mod clock;
pub(crate) mod guest_logs;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod request_id;
