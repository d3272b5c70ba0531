//! What calls functions besides requests.

pub(crate) mod queues;
