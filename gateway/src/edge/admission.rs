//! May this request come in?

pub(crate) mod in_flight;
pub(crate) mod load_shed;
mod sync;
