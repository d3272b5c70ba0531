//! What may a guest's request reach, and what is added to it on its way?

pub(super) mod address;
pub(super) mod credential;
pub(super) mod grant;
pub(super) mod target;
