//! How fast, and how much of that is us?
//!
//! - `cargo run --release -p benches --bin load -- report`: the gateway beside a bare axum server
//!   and all peers on this machine, as a report with tables and plots (`comparison`).
//! - `cargo run --release -p benches --bin load -- --help`: the gateway over HTTP, interleaved
//!   with a bare axum server (`throughput`); cold starts (`cold`); deploys (`deploy`);
//!   memory and start-up with many functions (`density`); a short function beside one that loops
//!   for ever, and beside uploads (`fairness`); more requests than can be served (`overload`).
//! - `cargo bench --workspace --bench cold_start`: the pool in process, without HTTP, beside the
//!   starts of processes and containers; `cold-start-table` makes tables of what it has found.
//! - `bare-axum`: the yardstick that the load harness starts.
//!
//! The harness knows the gateway only from outside: its command line, its API, its metrics, and
//! what `/proc` says of its process. Everything is on the loopback interface and ends by itself.

pub mod budget;
mod chart;
pub mod client;
pub mod cold;
pub mod cold_start_table;
pub mod comparison;
pub mod density;
pub mod deploy;
pub mod fairness;
pub mod gateway;
pub mod generator;
pub mod guest;
pub mod histogram;
pub mod http1;
pub mod machine;
pub mod overload;
pub mod process;
pub mod report;
pub mod storm;
pub mod throughput;
pub mod zipf;
