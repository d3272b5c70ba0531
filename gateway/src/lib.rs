//! What happens to an HTTP request: the gateway's two planes and its command line.
//!
//! Read `app` first: it makes everything, top to bottom. A request to a function goes
//! `server` → `middleware` → `edge` → `route_table` → `invoker` → the pool; a deployment goes
//! `server` → `middleware` → `routes` → `deploy` → the store and the pool → `catalog`.
//!
//! This crate speaks no SQL and knows nothing of Wasmtime. Statuses are decided in `problem`
//! alone, and the environment is read in `config` and `cli` alone.

#![forbid(unsafe_code)]

mod app;
pub mod cli;
mod clock;
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
