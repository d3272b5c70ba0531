//! Who may do what, and with which keys.

pub(crate) mod certificates;
pub(crate) mod secrets;
pub(crate) mod tokens;
