//! What the gateway tells of itself.

pub(crate) mod backup;
pub(crate) mod limits;
pub(crate) mod probes;
