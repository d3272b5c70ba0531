//! Models of the product's state machines that threads share, in every order of two threads' events
//! and in most orders of three. The files are the product's; only the types in `sync` are loom's.
//!
//! `cargo test --manifest-path runtime-pool/models/Cargo.toml`

#![cfg(test)]

mod explore;
mod semaphore;
mod sync;

#[path = "../../../gateway/src/edge/admission/in_flight.rs"]
mod in_flight;
#[path = "../../src/admission/slots.rs"]
mod slots;
mod warm;

mod budget_tests;
mod in_flight_tests;
mod refill_tests;
mod slots_tests;
