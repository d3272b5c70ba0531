//! Guests that misbehave, each under the eyes of [`oracle::Watch`]: whatever they do, everybody
//! else is served, and nothing of it is left.

mod computing;
mod ending;
mod host_calls;
mod memory;
mod oracle;
mod output;
mod proposals;
mod responses;
mod time;

use oracle::Watch;
pub(crate) use oracle::times;
