//! What calls functions besides requests.

pub(crate) mod flows;
pub(crate) mod queues;
