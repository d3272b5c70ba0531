//! What calls functions besides requests.

pub(crate) mod flows;
pub(crate) mod invocations;
pub(crate) mod queues;
pub(crate) mod schedules;
