//! The product from outside: the real binary, real guests, real sockets.
//!
//! Start reading at [`test_gateway::TestGateway`]. Every test has a gateway and a data directory of
//! its own. An `ERROR` in a gateway's log fails the test unless the test expects it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod client;
mod guests;
mod terminal;
mod test_gateway;

mod apply;
mod asynchronous;
mod auth;
mod backup;
mod bench;
mod canaries;
mod capabilities;
mod certificates;
mod cgi;
mod channels;
mod check;
mod cli;
mod compile_line;
mod compression;
mod connections;
mod control_plane;
mod core_modules;
mod crash;
mod density;
mod deploy;
mod errors;
mod fairness;
mod files;
mod flows;
mod function_calls;
mod gateway_log;
mod herd;
mod hostile_clients;
mod hostile_guests;
mod hostile_uploads;
mod idle_memory;
mod invoke;
mod isolation;
mod kinds;
mod lifecycle;
mod limits;
mod logs;
mod manifest;
mod model;
mod openapi;
mod outbound;
mod overload;
mod ownership;
mod programs;
mod queues;
mod releases;
mod route_auth;
mod routes;
mod schedules;
mod scratch;
mod semantics;
mod shadows;
mod shutdown;
mod snapshot;
mod soak;
mod stores;
mod timing;
mod tls;
mod warm;
