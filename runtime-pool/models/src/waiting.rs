//! The parts of the product's module of this name that threads meet in.

#[path = "../../src/waiting/making.rs"]
pub(crate) mod making;
#[path = "../../src/waiting/room.rs"]
pub(crate) mod room;
