//! The parts of the product's module `warm` that threads share.

#[path = "../../src/warm/budget.rs"]
pub(crate) mod budget;
#[path = "../../src/warm/refill.rs"]
pub(crate) mod refill;
