//! The store through its public interface, on real files.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod artifacts;
mod backup;
mod cancellation;
mod channels;
mod crashes;
mod damage;
mod flows;
mod functions;
mod history;
mod idempotency;
mod invocations;
mod logs;
mod opening;
mod projects;
mod queues;
mod schedules;
mod support;
mod tenants;
mod tokens;
mod trees;
mod upgrades;
