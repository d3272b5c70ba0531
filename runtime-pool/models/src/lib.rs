//! The product's own state machines between threads, in every order of events that two threads
//! allow, and in most of three. The files are those of the product; only what `sync` names is loom's here.
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
