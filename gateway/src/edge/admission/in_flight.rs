//! At most so many requests at once, bodies included.
//!
//! `runtime-pool/models` tries it with every order of events.

use super::sync::{Arc, AtomicUsize, Ordering::Relaxed};

/// Counts requests. On a cache line of its own: every thread writes to it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct InFlight {
    taken: AtomicUsize,
    max: usize,
}

/// A request's place; given up when dropped.
#[derive(Debug)]
pub(crate) struct RequestPermit(Arc<InFlight>);

impl InFlight {
    pub(crate) fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max }
    }

    /// A place, or none at once. To be held until the response's body has ended: who lets go of
    /// it at the head does not count streams.
    pub(crate) fn enter(in_flight: &Arc<Self>) -> Option<RequestPermit> {
        let place = RequestPermit(Arc::clone(in_flight));
        // Whoever is one too many takes its own place back by dropping it.
        (in_flight.taken.fetch_add(1, Relaxed) < in_flight.max).then_some(place)
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}
