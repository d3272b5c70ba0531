//! The product from outside: the real binary, real guests, real sockets.
//!
//! Start reading at [`test_gateway::TestGateway`]. Every test has a gateway and a data directory
//! of its own; an `ERROR` in a gateway's log that the test did not announce fails the test.

#![expect(clippy::unwrap_used, reason = "a test may panic, in what it shares with others too")]

mod client;
mod guests;
mod test_gateway;

mod auth;
mod bench;
mod cgi;
mod cli;
mod connections;
mod control_plane;
mod crash;
mod density;
mod deploy;
mod errors;
mod fairness;
mod herd;
mod hostile_clients;
mod hostile_guests;
mod hostile_uploads;
mod invoke;
mod isolation;
mod kinds;
mod lifecycle;
mod limits;
mod logs;
mod model;
mod openapi;
mod outbound;
mod overload;
mod shutdown;
mod snapshot;
mod soak;
mod timing;
mod tls;
mod warm;
