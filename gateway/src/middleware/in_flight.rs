//! At most so many requests at once, bodies included.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Counts requests. On a cache line of its own: every thread writes to it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct InFlight {
    taken: AtomicUsize,
    max: usize,
}

/// A request's place; given up when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<InFlight>);

impl InFlight {
    pub(crate) fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max }
    }

    /// A place, or none at once. To be held until the response's body has ended: who lets go of
    /// it at the head does not count streams.
    pub(crate) fn enter(in_flight: &Arc<Self>) -> Option<Place> {
        let place = Place(Arc::clone(in_flight));
        // Whoever is one too many takes its own place back by dropping it.
        (in_flight.taken.fetch_add(1, Relaxed) < in_flight.max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_place_takes_none() {
        let in_flight = Arc::new(InFlight::new(2));
        let enter = || InFlight::enter(&in_flight);
        let (first, second) = (enter().unwrap(), enter().unwrap());
        assert!(enter().is_none());
        assert!(enter().is_none());
        drop(first);
        let third = enter().unwrap();
        assert!(enter().is_none());
        drop((second, third));
        assert_eq!(in_flight.taken.load(Relaxed), 0);
    }
}
