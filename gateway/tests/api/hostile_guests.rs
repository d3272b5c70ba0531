//! Guests that misbehave, each observed by [`oracle::GuestWatch`]: other functions are served
//! throughout, and the guests leave nothing behind.

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

pub(crate) use oracle::{GuestWatch, times};
