//! The path of an HTTP request: the gateway's two planes and its command line.
//!
//! Read `app` first: it creates everything, top to bottom. A call passes `server`, `request`,
//! `edge` and `invoker` on its way to the pool. A deploy passes `server`, `request` and `control`
//! on its way to `functions`, which uses the store and the pool and updates the catalog.
//!
//! This crate has no SQL and does not use Wasmtime. Only the table in `problem` has statuses of
//! problems; only `config` and `cli` read the environment.

#![forbid(unsafe_code)]

mod app;
pub mod cli;
pub mod config;
mod control;
mod edge;
mod functions;
mod invoker;
mod problem;
#[doc(hidden)]
pub mod request;
#[doc(hidden)]
pub mod server;
mod telemetry;
mod triggers;

#[doc(hidden)]
pub use crate::functions::routes::measured::MeasuredRoutes;
