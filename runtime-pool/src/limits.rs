//! What one function, and one invocation of it, may use.

use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::{artifact::Kind, error::Refusal};

/// Live resources (streams, pollables, fields, …) that one invocation may hold in the host, each
/// about 100 bytes. StarlingMonkey, which runs JavaScript, keeps a pollable for each chunk that it
/// reads: this many let it take in the largest request body.
pub(crate) const HOST_RESOURCES: usize = 16_384;
/// Live component handles that one invocation may hold: one for each of those resources.
pub(crate) const COMPONENT_HANDLES: usize = 16_384;
/// Bytes that one host call may take over from a component. Bodies and log lines are far below.
pub(crate) const HOSTCALL_BYTES: usize = 1 << 20;
/// The same for preview1 modules, whose `fd_write` hands over whole buffers: Go writes megabytes
/// at once. They are not copied in one piece, so that a larger value costs nothing.
pub(crate) const PREVIEW1_HOSTCALL_BYTES: usize = 64 << 20;
/// Bytes of header fields that one `fields` resource may hold.
pub(crate) const FIELD_BYTES: usize = 64 << 10;
/// Bytes that one call for random data may ask for.
pub(crate) const RANDOM_BYTES: u64 = 64 << 10;
/// Bytes that a guest may hand over in one write to a body.
pub(crate) const BODY_CHUNK_BYTES: usize = 64 << 10;
/// Elements that each table may grow to.
pub(crate) const TABLE_ELEMENTS: usize = 20_000;

/// Effective limits: every field is set and already clamped to the platform's ceilings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ceiling of all linear memories of an instance together, in bytes.
    pub memory_bytes: usize,
    /// CPU time of one invocation.
    pub cpu: Duration,
    /// Wall-clock time of one invocation, from admission to the last byte of its response.
    pub timeout: Duration,
    /// Invocations of the function that may run at once.
    pub concurrency: usize,
    /// Invocations that may wait for one of those to end.
    pub queue: usize,
    /// How long an invocation may wait in that queue.
    pub queue_wait: Duration,
    /// A function not called for this long leaves memory.
    pub idle: Duration,
    /// Bytes of a response body.
    pub response_bytes: u64,
    /// Bytes of standard output and standard error kept per invocation.
    pub log_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            cpu: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            concurrency: 64,
            queue: 640,
            queue_wait: Duration::from_secs(1),
            idle: Duration::from_mins(5),
            response_bytes: 100 << 20,
            log_bytes: 64 << 10,
        }
    }
}

/// What a function's invocations share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing: each has a fresh instance.
    #[default]
    Request,
    /// An instance serves one after the other, and what it keeps in memory stays.
    Reuse {
        /// Calls after which it is dropped.
        max_uses: u32,
        /// Calls that it may serve at once; more than one only for WASI 0.3.
        max_concurrent: u32,
        /// Time without a call after which it is dropped.
        idle: Duration,
    },
}

impl Isolation {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Reuse { .. } => "reuse",
        }
    }

    /// Whether a guest of this kind can be held to it.
    pub(crate) fn fits(&self, kind: Kind) -> Result<(), Refusal> {
        let Self::Reuse { max_concurrent, .. } = self else { return Ok(()) };
        match kind {
            Kind::WasiCommand | Kind::WasiPreview1 => Err(Refusal::Isolation(format!(
                "a guest of the kind {} ends with its request, so that isolation `reuse` is not \
                 for it; use `request`",
                kind.as_str()
            ))),
            Kind::WasiHttp02 | Kind::WasiHttp03 if *max_concurrent > 1 => Err(Refusal::Isolation(
                "an instance serves one call at a time; set max_concurrent to 1".into(),
            )),
            Kind::WasiHttp02 | Kind::WasiHttp03 => Ok(()),
        }
    }
}

/// Counts what a store has taken and says no at the limit.
#[derive(Debug)]
pub(crate) struct StoreLimiter {
    memory_max: usize,
    memory_left: usize,
    /// Whether a growth was refused: it explains the trap that usually follows.
    pub(crate) memory_refused: bool,
}

impl StoreLimiter {
    pub(crate) fn new(memory_bytes: usize) -> Self {
        Self { memory_max: memory_bytes, memory_left: memory_bytes, memory_refused: false }
    }

    /// Linear memory that the store has.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_max - self.memory_left
    }
}

impl ResourceLimiter for StoreLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let Some(left) = self.memory_left.checked_sub(growth) else {
            self.memory_refused = true;
            return Ok(false);
        };
        self.memory_left = left;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_refused = true;
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_counted_over_all_memories_and_refused_at_the_limit() {
        let mut limiter = StoreLimiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(!limiter.memory_refused);
        assert!(!limiter.memory_growing(40, 41, None).unwrap());
        assert!(limiter.memory_refused);
    }

    #[test]
    fn a_table_may_grow_to_its_limit_and_no_further() {
        let mut limiter = StoreLimiter::new(0);
        assert!(limiter.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        assert!(!limiter.table_growing(0, TABLE_ELEMENTS + 1, None).unwrap());
    }
}
