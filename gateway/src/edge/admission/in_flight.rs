//! Limits the requests in flight, their responses' bodies included.
//!
//! The last eighth of the permits goes to clients that have few: a client gets one of them only
//! while it has fewer requests in flight than permits are left. So a few clients that take all they
//! may do not keep the others out.
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

    /// A permit, or `None` at once. `others` counts the other requests of the same client. Hold the
    /// permit until the response's body has ended: one that is released with the head would not
    /// count streams.
    pub(crate) fn acquire(in_flight: &Arc<Self>, others: usize) -> Option<RequestPermit> {
        let permit = RequestPermit(Arc::clone(in_flight));
        let left = in_flight.max.saturating_sub(in_flight.taken.fetch_add(1, Relaxed));
        // Without a permit, dropping it takes this count back.
        (left > in_flight.max / 8 || left > others).then_some(permit)
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}
