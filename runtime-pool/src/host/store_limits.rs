//! The limits of a guest, in a store of either kind.

use std::{sync::Arc, time::Duration};

use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::{
    error::{CpuExceeded, Limit},
    host::{files::scratch::Scratch, invocation_state::InvocationState},
    limits::{GrowthLimiter, GuestLimits, Limits, NodeMemory},
};

/// The limits of a store, and the invocation that it serves.
pub(crate) struct StoreLimits {
    limiter: GrowthLimiter,
    state: Arc<InvocationState>,
    cpu: Duration,
    /// The limit by which the host keeps nothing more for the guest, once it was exceeded.
    kept_too_much: Option<Limit>,
    /// The scratch directory, if the function's settings ask for one.
    scratch: Option<Scratch>,
    pub(super) guest: GuestLimits,
}

impl StoreLimits {
    pub(crate) fn new(limits: &Limits, node: NodeMemory, state: Arc<InvocationState>) -> Self {
        let limiter = GrowthLimiter::new(limits, node);
        let scratch = limiter.scratch().map(|budget| Scratch::new(Arc::clone(budget), &state));
        let (cpu, guest) = (limits.cpu, limits.guest);
        let limits = Self { limiter, state, cpu, kept_too_much: None, scratch, guest };
        limits.note_holder();
        limits
    }

    /// Assigns the store to an invocation.
    pub(crate) fn begin_invocation(&mut self, state: Arc<InvocationState>) {
        if let Some(scratch) = &self.scratch {
            scratch.begin_invocation(&state);
        }
        self.state = state;
        self.note_holder();
    }

    /// The scratch directory, if the function's settings ask for one.
    pub(super) fn scratch(&self) -> Option<&Scratch> {
        self.scratch.as_ref()
    }

    /// Lets the host keep `bytes` for the guest. Once that is refused, nothing more is allowed.
    pub(super) fn keep_in_host(&mut self, bytes: usize) -> Result<(), Limit> {
        if let Some(limit) = self.kept_too_much {
            return Err(limit);
        }
        let kept = self.limiter.keep_in_host(bytes);
        self.note_holder();
        if let Err(limit) = kept {
            self.kept_too_much = Some(limit);
            if limit.is_refused_growth() {
                self.state.refuse(limit);
            }
        }
        kept
    }

    /// Records that the guest has made a response.
    pub(super) fn make_response(&self) {
        self.state.make_response();
    }

    /// The limit by which the host keeps nothing more for the guest, and what it may keep.
    pub(crate) fn kept_too_much(&self) -> Option<(Limit, usize)> {
        self.kept_too_much.map(|limit| (limit, self.limiter.host_max()))
    }

    /// Lets the node end the invocation if the host keeps much for it.
    fn note_holder(&self) {
        if let Some(holder) = self.limiter.holder() {
            self.state.set_holder(holder);
        }
    }

    /// The linear memory of the store, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.limiter.memory_bytes()
    }

    /// The limit by which the guest was refused more memory, if it was.
    pub(crate) fn refused_memory(&self) -> Option<Limit> {
        self.state.refused_memory()
    }

    /// Whether the body of the guest's response has ended.
    pub(crate) fn has_responded(&self) -> bool {
        self.state.outcome.has_responded()
    }

    /// The CPU time that the invocation may use.
    pub(crate) fn cpu_limit(&self) -> Duration {
        self.cpu
    }

    /// The most bytes of one write to a body.
    pub(crate) fn body_chunk_bytes(&self) -> usize {
        self.guest.body_chunk_bytes
    }

    /// Called at every epoch tick while guest code runs.
    pub(super) fn tick(&self) -> wasmtime::Result<UpdateDeadline> {
        if self.state.meter.tick(self.guest.tick) > self.cpu {
            return Err(CpuExceeded.into());
        }
        self.state.interrupt();
        // Yields to the other tasks of this thread.
        Ok(UpdateDeadline::Yield(1))
    }
}

impl ResourceLimiter for StoreLimits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = self.limiter.grow_memory(current, desired);
        Ok(grown.map_err(|limit| self.state.refuse(limit)).is_ok())
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.state.refuse(Limit::Memory);
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = self.limiter.grow_table(desired);
        Ok(grown.map_err(|limit| self.state.refuse(limit)).is_ok())
    }
}
