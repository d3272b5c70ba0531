//! How do operators and owners manage functions?
//!
//! Start at `router`: it lists every route. The handlers are in `resources`, one file each; the
//! shapes that they answer with are the types of `gateway_api`, made in `views`.

pub(crate) mod apply;
pub(crate) mod auth;
pub(crate) mod backup_metrics;
pub(crate) mod extract;
pub(crate) mod layers;
pub(crate) mod page;
pub(crate) mod preconditions;
mod problems;
pub(crate) mod request_log;
pub(crate) mod resources;
pub(crate) mod router;
pub(crate) mod state;
pub(crate) mod upload;
pub(crate) mod views;
