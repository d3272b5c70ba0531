//! Benchmarks: how fast is the gateway, and how much of the time is its own?
//!
//! - `cargo run --release -p benches --bin load -- report`: the gateway beside a bare axum server
//!   and all peers on this machine, as a report with tables and plots (`comparison`).
//! - `cargo run --release -p benches --bin load -- --help`: the gateway over HTTP, interleaved
//!   with a bare axum server (`throughput`); cold starts (`cold`); deploys (`deploy`);
//!   memory and start-up with many functions (`density`); a short function beside endless loops,
//!   and beside uploads (`fairness`); more requests than the gateway can serve (`overload`); where
//!   CPU time and allocations of a request go (`profile`).
//! - `cargo bench --workspace --bench cold_start`: the pool in process, without HTTP, beside the
//!   starts of processes and containers; `cold-start-table` prints the results as tables.
//! - `cargo bench --workspace --bench fresh_instance`: ways to make an instance, with Wasmtime alone.
//! - `cargo bench --workspace --bench channel_weights`: what a channel costs a warm request.
//! - `bare-axum`: the yardstick, a server that the load harness starts.
//! - `mayfly-counted`: the gateway with an allocator that counts (`allocations`).
//!
//! The harness uses only what the gateway shows outside: its command line, its API, its metrics and
//! its process in `/proc`. All servers are on the loopback interface, and the harness stops them.

pub mod allocations;
pub mod budget;
mod chart;
pub mod client;
pub mod cold;
pub mod cold_start_table;
pub mod comparison;
pub mod density;
pub mod deploy;
pub mod drain;
pub mod fairness;
pub mod gateway;
pub mod generator;
pub mod guest;
pub mod histogram;
pub mod http1;
pub mod machine;
pub mod overload;
pub mod process;
pub mod profile;
pub mod report;
pub mod storm;
pub mod throughput;
pub mod zipf;
