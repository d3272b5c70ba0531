//! What the control plane's API and its clients share: the names and shapes in `/v1`.
//!
//! This crate knows no HTTP server, no store and no runtime.

mod limit_values;
mod limits;
mod settings;

pub use crate::{
    limit_values::{AskedLimits, LimitValues},
    limits::{FunctionLimit, LIMITS, LimitRow, Unit},
    settings::OTHER_SETTINGS,
};
