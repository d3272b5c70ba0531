//! The parts of the product's module of this name that threads meet in.

#[path = "../../src/warm/refill.rs"]
pub(crate) mod refill;
#[path = "../../src/warm/budget.rs"]
pub(crate) mod budget;
