//! The canonical ABI: how values of the component model lie in words and in the memory of a guest.
//!
//! Only for memories of 32 bits and texts in UTF-8. Nothing here trusts a guest: each read and write is
//! checked against the memory, each list against the bytes of its call, and each number that stands for a
//! case against the cases that exist.

mod compound;
mod lists;
mod scalars;
mod shape;
mod transfer;
mod variants;

pub(super) use self::{
    lists::{PlacedList, place_list},
    scalars::{Lent, Own},
    shape::{Abi, CoreType, Flat, Shape},
    transfer::{Lift, Lifting, Lower, Lowering, Words, low},
    variants::{FieldPlaces, record, variant},
};
