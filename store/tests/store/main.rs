//! The store through its public door, on real files.

#![expect(clippy::unwrap_used, reason = "a test may panic, in what it shares with others too")]

mod artifacts;
mod cancellation;
mod crashes;
mod damage;
mod functions;
mod idempotency;
mod logs;
mod opening;
mod support;
mod tenants;
mod tokens;
mod upgrades;
