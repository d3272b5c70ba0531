//! The requests in flight.

use loom::{sync::Arc, thread};

use crate::{
    explore::{Inside, every_order, orders_of_three},
    in_flight::InFlight,
};

fn at_once(threads: usize, max: usize) {
    let in_flight = Arc::new(InFlight::new(max));
    let inside = std::sync::Arc::new(Inside::new(max));
    let enter = |in_flight: &Arc<InFlight>, inside: &Inside| {
        let place = InFlight::acquire(in_flight, 0);
        if place.is_some() {
            inside.stay(1);
        }
    };
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let (in_flight, inside) = (Arc::clone(&in_flight), std::sync::Arc::clone(&inside));
            thread::spawn(move || enter(&in_flight, &inside))
        })
        .collect();
    enter(&in_flight, &inside);
    others.into_iter().for_each(|other| other.join().unwrap());
    let places: Vec<_> = (0..=max).filter_map(|_| InFlight::acquire(&in_flight, 0)).collect();
    assert_eq!(places.len(), max, "a place was lost or made");
}

/// Case M02.
#[test]
fn requests_in_flight_never_exceed_the_limit_and_no_permit_is_lost() {
    every_order(|| at_once(2, 1));
    orders_of_three(|| at_once(3, 2));
}
