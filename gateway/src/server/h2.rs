//! Serves HTTP/2, and inspects its frames before the protocol library reads them.

pub(crate) mod connection;
pub(crate) mod control_frames;
mod date;
mod keep_alive;
pub(crate) mod received_body;
mod send_body;
mod stream;
