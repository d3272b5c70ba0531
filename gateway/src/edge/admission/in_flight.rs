//! Limits the requests in flight, their responses' bodies included.
//!
//! `runtime-pool/models` tries this file with every order of events.

use super::sync::{Arc, AtomicUsize, Ordering::Relaxed};

/// Counts requests in flight. It has a cache line of its own, because every thread writes to it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct InFlight {
    taken: AtomicUsize,
    max: usize,
}

/// The permit of one request. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct RequestPermit(Arc<InFlight>);

impl InFlight {
    pub(crate) fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max }
    }

    /// A permit, or `None` at once. Hold it until the response's body has ended: a permit that is
    /// released with the head would not count streams.
    pub(crate) fn acquire(in_flight: &Arc<Self>) -> Option<RequestPermit> {
        let permit = RequestPermit(Arc::clone(in_flight));
        // Beyond the limit, dropping the permit takes this count back.
        (in_flight.taken.fetch_add(1, Relaxed) < in_flight.max).then_some(permit)
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}
