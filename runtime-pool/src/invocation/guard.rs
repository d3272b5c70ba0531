//! What an invocation holds for as long as its guest works.

use std::sync::Arc;

use crate::{
    Function,
    admission::slots::{NoSlot, QueueTicket},
    host::invocation_state::InvocationState,
};

/// A concurrency slot of a function. Given back when dropped.
pub(super) struct Slot(Arc<Function>);

impl Slot {
    /// A slot, if one is free.
    pub(super) fn try_take(function: &Arc<Function>) -> Option<Self> {
        function.admission.slots.take().then(|| Self(Arc::clone(function)))
    }

    /// Waits in the queue for a slot.
    pub(super) async fn wait(
        function: &Arc<Function>,
        ticket: QueueTicket<'_>,
    ) -> Result<Self, NoSlot> {
        ticket.slot().await.map(|()| Self(Arc::clone(function)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.admission.slots.give_back();
    }
}

/// Counts an invocation as running until dropped, and then what it has used.
pub(super) struct InvocationGuard {
    slot: Slot,
    pub(super) state: Arc<InvocationState>,
}

impl InvocationGuard {
    pub(super) fn new(slot: Slot, state: Arc<InvocationState>) -> Self {
        slot.0.statistics.begin_invocation();
        Self { slot, state }
    }
}

impl Drop for InvocationGuard {
    fn drop(&mut self) {
        self.slot.0.statistics.end_invocation(&self.state);
    }
}
