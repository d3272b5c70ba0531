//! What the gateway tells of itself.

pub(crate) mod limits;
pub(crate) mod probes;
