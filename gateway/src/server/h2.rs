//! Inspects the frames of HTTP/2 before the protocol library reads them.

pub(crate) mod control_frames;
