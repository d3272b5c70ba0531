//! Guests that misbehave, each under the eyes of [`oracle::Watch`]: whatever they do, everybody
//! else is served, and nothing of it is left.

mod computing;
mod ending;
mod framing;
mod host_calls;
mod memory;
mod oracle;
mod output;
mod proposals;
mod raw;
mod responses;
mod slow_host;
mod time;

use oracle::Watch;
pub(crate) use oracle::times;
