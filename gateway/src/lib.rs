//! What happens to an HTTP request: the gateway's two planes and its command line.
//!
//! Read `app` first: it makes everything, top to bottom. A request to a function goes
//! `server` → `middleware` → `edge` → `route_table` → `invoker` → the pool; a deployment goes
//! `server` → `middleware` → `routes` → `deploy` → the store and the pool → `catalog`.
//!
//! This crate speaks no SQL and knows nothing of Wasmtime. Statuses are decided in `problem`
//! alone, and the environment is read in `config` and `cli` alone.

#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod address;
mod app;
mod body;
mod catalog;
pub mod cli;
pub mod config;
mod deploy;
mod descriptors;
mod edge;
mod forwarded;
mod function_name;
mod guest_logs;
mod invoker;
mod memory;
mod middleware;
mod planes;
mod pressure;
mod problem;
mod quarantine;
mod refusals;
mod reload;
mod renewal;
mod route_table;
mod routes;
mod secrets;
#[doc(hidden)]
pub mod server;
mod server_timing;
mod strict;
mod sync;
mod systemd;
mod telemetry;
mod threads;
mod token;
mod warm;
