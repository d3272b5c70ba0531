//! The limits of a guest, in a store of either kind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::{
    error::{CpuExceeded, Limit},
    host::{files::scratch::Scratch, invocation_state::InvocationState},
    limits::{GrowthLimiter, GuestLimits, Limits, NodeMemory},
};

/// A part of what the host keeps for a guest, counted while this lives.
pub(super) struct Held {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

/// The limits of a store, and the invocation that it serves.
pub(crate) struct StoreLimits {
    limiter: GrowthLimiter,
    state: Arc<InvocationState>,
    cpu: Duration,
    /// What resources in the table keep.
    kept: usize,
    /// What operations on stores keep, and values that the guest compares with, if there were any.
    operations: Option<Arc<AtomicUsize>>,
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
        let limits = Self {
            limiter,
            state,
            cpu,
            kept: 0,
            operations: None,
            kept_too_much: None,
            scratch,
            guest,
        };
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
        self.kept = bytes;
        let kept = self.count_kept();
        if let Err(limit) = kept {
            self.kept_too_much = Some(limit);
            if limit.is_refused_growth() {
                self.state.refuse(limit);
            }
        }
        kept
    }

    /// Lets an operation on a store keep `bytes` for the guest. One that is refused can be tried again.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<Held, Limit> {
        let all = Arc::clone(self.operations.get_or_insert_default());
        all.fetch_add(bytes, Relaxed);
        let held = Held { all, bytes };
        self.count_kept().map(|()| held)
    }

    fn count_kept(&mut self) -> Result<(), Limit> {
        let operations = self.operations.as_ref().map_or(0, |held| held.load(Relaxed));
        let kept = self.limiter.keep_in_host(self.kept.saturating_add(operations));
        self.note_holder();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_keep_as_much_as_the_host_may_and_leave_nothing_behind() {
        let guest = GuestLimits { host_bytes: 4 << 20, ..GuestLimits::default() };
        let limits = Limits { guest, ..Limits::default() };
        let mut limits = StoreLimits::new(&limits, NodeMemory::unlimited(), Arc::default());
        limits.keep_in_host(1 << 20).unwrap();
        let first = limits.hold(2 << 20).unwrap();
        assert_eq!(limits.hold(2 << 20).err(), Some(Limit::HostBytes));
        let second = limits.hold(1 << 20).unwrap();
        drop((first, second));
        let _third = limits.hold(3 << 20).unwrap();
        // What was refused to an operation is not refused to the rest of the guest.
        assert_eq!(limits.kept_too_much(), None);
        assert_eq!(limits.keep_in_host(2 << 20), Err(Limit::HostBytes));
    }
}
