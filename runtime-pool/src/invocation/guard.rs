//! Resources that an invocation holds while its guest works.

use std::sync::Arc;

use crate::{
    Function, Limit,
    admission::slots::{NoSlot, QueueTicket},
    host::invocation_state::InvocationState,
};

/// A concurrency slot of a function, released on drop.
pub(super) struct Slot(Arc<Function>);

impl Slot {
    /// Takes a slot if one is free.
    pub(super) fn try_take(function: &Arc<Function>) -> Option<Self> {
        function.admission.slots.try_take().then(|| Self(Arc::clone(function)))
    }

    /// Waits in the queue for a slot, and takes it.
    pub(super) async fn wait(
        function: &Arc<Function>,
        ticket: QueueTicket<'_>,
    ) -> Result<Self, NoSlot> {
        ticket.wait().await.map(|()| Self(Arc::clone(function)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.admission.slots.release();
    }
}

/// Counts an invocation as running. On drop it counts what the invocation has used, and releases the
/// slot.
pub(super) struct InvocationGuard {
    slot: Slot,
    invocation: u128,
    pub(super) state: Arc<InvocationState>,
}

impl InvocationGuard {
    pub(super) fn new(slot: Slot, invocation: u128, state: Arc<InvocationState>) -> Self {
        slot.0.statistics.begin_invocation();
        Self { slot, invocation, state }
    }

    /// The function that is called.
    pub(super) fn function(&self) -> &Arc<Function> {
        &self.slot.0
    }
}

impl Drop for InvocationGuard {
    fn drop(&mut self) {
        let function = &self.slot.0;
        function.statistics.end_invocation(&self.state);
        // Programs seldom say which of their files could not be written, and why.
        if self.state.was_refused(Limit::ScratchBytes) {
            let bytes = function.limits().scratch_bytes;
            let why =
                format!("its scratch directory is full: it has {bytes} bytes (scratch_bytes)");
            function.template.log().system(self.invocation, &why);
        }
    }
}
