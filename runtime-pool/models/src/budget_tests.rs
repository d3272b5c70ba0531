//! The budget for warm instances.

use loom::{sync::Arc, thread};

use crate::{
    explore::{Inside, every_order, orders_of_three},
    warm::budget::WarmRoom,
};

/// Each thread brings an instance of the given size, where the budget is two bytes.
fn at_once(bytes: &'static [u64]) {
    let shared = Arc::new((WarmRoom::new(2, 2), Inside::new(2)));
    let wait = |(room, inside): &(WarmRoom, Inside), bytes: u64| {
        if room.take(bytes) {
            inside.stay(usize::try_from(bytes).unwrap());
            room.give_back(bytes);
        }
    };
    let others: Vec<_> = bytes[1..]
        .iter()
        .map(|&bytes| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || wait(&shared, bytes))
        })
        .collect();
    wait(&shared, bytes[0]);
    others.into_iter().for_each(|other| other.join().unwrap());
    let room = &shared.0;
    assert!(room.take(1) && room.take(1), "room was lost");
    assert!(!room.take(0) && !room.take(1), "room was made");
}

/// Case M02.
#[test]
fn warm_instances_never_exceed_the_budget_and_no_room_is_lost() {
    every_order(|| at_once(&[1, 2]));
    orders_of_three(|| at_once(&[1, 2, 1]));
}
