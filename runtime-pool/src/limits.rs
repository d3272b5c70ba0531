//! What one function, and one invocation of it, may use.

mod artifact;
pub mod milliseconds;

use std::time::Duration;

use prometheus::IntGauge;
use serde::{Deserialize, Serialize};

pub use self::artifact::ArtifactLimits;
use crate::error::Limit;

/// Limits for the guests of all functions alike. Each of them guards the host itself, so the
/// operator decides, not the owner of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestLimits {
    /// Stack for guest code.
    pub stack_bytes: usize,
    /// Elements that each table may grow to.
    pub table_elements: usize,
    /// Live resources (streams, pollables, fields, …) that one invocation may hold in the host.
    pub host_resources: usize,
    /// Live component handles that one invocation may hold.
    pub component_handles: usize,
    /// Bytes that one host call may take over from a component. Bodies and log lines are far below.
    pub hostcall_bytes: usize,
    /// The same for preview1 modules, whose `fd_write` hands over whole buffers: they are not
    /// copied in one piece, so that a larger value costs nothing.
    pub preview1_hostcall_bytes: usize,
    /// Bytes of header fields that one `fields` resource may hold.
    pub field_bytes: usize,
    /// Bytes that one call for random data may ask for.
    pub random_bytes: u64,
    /// Bytes that a guest may hand over in one write to a body, and that wait to be sent on.
    pub body_chunk_bytes: usize,
    /// Small writes to a body are merged up to this many bytes before they leave.
    pub merge_bytes: usize,
    /// Writes of nothing to a body before a guest is taken for an attack.
    pub empty_writes: u32,
    /// How long a guest may go on after the end of its response.
    #[serde(rename = "after_response_ms", with = "milliseconds")]
    pub after_response: Duration,
    /// Bytes of a log line that are kept.
    pub log_line_bytes: usize,
    /// Bytes of lines that one function may log in a second, over all its invocations.
    pub log_bytes_per_second: u64,
    /// How finely CPU limits are enforced, and how long one guest may keep a thread to itself.
    #[serde(rename = "tick_ms", with = "milliseconds")]
    pub tick: Duration,
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self {
            stack_bytes: 512 << 10,
            table_elements: 20_000,
            // Each takes about 100 bytes. StarlingMonkey, which runs JavaScript, keeps a pollable
            // for each chunk that it reads: this many let it take in the largest request body.
            host_resources: 16_384,
            component_handles: 16_384,
            hostcall_bytes: 1 << 20,
            // Go writes megabytes at once.
            preview1_hostcall_bytes: 64 << 20,
            field_bytes: 64 << 10,
            random_bytes: 64 << 10,
            body_chunk_bytes: 64 << 10,
            // The protocol layers spend hundreds of bytes on each frame, whatever its size.
            merge_bytes: 8 << 10,
            empty_writes: 10_000,
            after_response: Duration::from_secs(1),
            log_line_bytes: 4 << 10,
            log_bytes_per_second: 1 << 20,
            tick: Duration::from_millis(5),
        }
    }
}

/// Effective limits: every field is set and already clamped to the platform's ceilings.
///
/// The gateway makes it of a table of limits by their keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Limits {
    /// Ceiling of all linear memories of an instance together, in bytes.
    pub memory_bytes: usize,
    /// CPU time of one invocation.
    #[serde(rename = "cpu_ms", with = "milliseconds")]
    pub cpu: Duration,
    /// Wall-clock time of one invocation, from admission to the last byte of its response.
    #[serde(rename = "timeout_ms", with = "milliseconds")]
    pub timeout: Duration,
    /// Invocations of the function that may run at once.
    pub concurrency: usize,
    /// Invocations that may wait for one of those to end.
    pub queue: usize,
    /// How long an invocation may wait in that queue.
    #[serde(rename = "queue_wait_ms", with = "milliseconds")]
    pub queue_wait: Duration,
    /// A function not called for this long leaves memory.
    #[serde(rename = "idle_ms", with = "milliseconds")]
    pub idle: Duration,
    /// Bytes of a response body.
    pub response_bytes: u64,
    /// Bytes of standard output and standard error kept per invocation.
    pub log_bytes: usize,
    /// What holds for all functions alike.
    #[serde(skip)]
    pub guest: GuestLimits,
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
            guest: GuestLimits::default(),
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
}

/// Linear memory of all instances of the node together. It says no when there is none left.
#[derive(Clone, Debug)]
pub(crate) struct NodeMemory {
    max: u64,
    /// What is taken: the very gauge that is shown.
    used: IntGauge,
}

impl NodeMemory {
    pub(crate) fn new(max: u64, used: IntGauge) -> Self {
        Self { max, used }
    }

    /// A node of which nobody asks how much it has.
    pub(crate) fn unlimited() -> Self {
        let used = IntGauge::new("memory_bytes", "not shown").expect("the name is a valid one");
        Self { max: u64::MAX, used }
    }

    /// Takes so much for a memory that begins.
    fn begin(&self, bytes: usize) -> bool {
        self.take(bytes, self.max)
    }

    /// Takes so much for one that grows. The last eighth is left for those that begin, so that a
    /// few that grow without end keep nobody from starting.
    fn grow(&self, bytes: usize) -> bool {
        self.take(bytes, self.max - self.max / 8)
    }

    fn take(&self, bytes: usize, max: u64) -> bool {
        self.used.add(bytes as i64);
        let fits = self.used.get().cast_unsigned() <= max;
        if !fits {
            // Whoever asks between these two lines may be refused in vain: the node is full.
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.sub(bytes as i64);
    }
}

/// Counts what a store has taken and says no at the limit.
#[derive(Debug)]
pub(crate) struct StoreLimiter {
    memory_max: usize,
    memory_left: usize,
    table_elements: usize,
    node: NodeMemory,
}

impl StoreLimiter {
    pub(crate) fn new(limits: &Limits, node: NodeMemory) -> Self {
        Self {
            memory_max: limits.memory_bytes,
            memory_left: limits.memory_bytes,
            table_elements: limits.guest.table_elements,
            node,
        }
    }

    /// Linear memory that the store has.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_max - self.memory_left
    }

    /// Lets a memory of `current` bytes have `desired`, or says which limit is in the way.
    pub(crate) fn grow_memory(&mut self, current: usize, desired: usize) -> Result<(), Limit> {
        let growth = desired.saturating_sub(current);
        let left = self.memory_left.checked_sub(growth).ok_or(Limit::Memory)?;
        let taken = if current == 0 { self.node.begin(growth) } else { self.node.grow(growth) };
        if !taken {
            return Err(Limit::NodeMemory);
        }
        self.memory_left = left;
        Ok(())
    }

    /// Whether a table may have so many elements.
    pub(crate) fn grow_table(&self, desired: usize) -> Result<(), Limit> {
        if desired <= self.table_elements { Ok(()) } else { Err(Limit::TableElements) }
    }
}

impl Drop for StoreLimiter {
    fn drop(&mut self) {
        self.node.give_back(self.memory_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_counted_over_all_memories_and_refused_at_the_limit() {
        let limits = Limits { memory_bytes: 100, ..Limits::default() };
        let mut limiter = StoreLimiter::new(&limits, NodeMemory::unlimited());
        assert_eq!(limiter.grow_memory(0, 60), Ok(()));
        assert_eq!(limiter.grow_memory(0, 40), Ok(()));
        assert_eq!(limiter.grow_memory(40, 41), Err(Limit::Memory));
        assert_eq!(limiter.memory_bytes(), 100);
    }

    #[test]
    fn all_stores_share_the_nodes_memory_and_give_it_back() {
        let used = IntGauge::new("memory_bytes", "not shown").unwrap();
        let node = NodeMemory::new(80, used.clone());
        let mut first = StoreLimiter::new(&Limits::default(), node.clone());
        let mut second = StoreLimiter::new(&Limits::default(), node);
        assert_eq!(first.grow_memory(0, 10), Ok(()));
        assert_eq!(first.grow_memory(10, 70), Ok(()));
        // What is left is for those that begin.
        assert_eq!(first.grow_memory(70, 71), Err(Limit::NodeMemory));
        assert_eq!(second.grow_memory(0, 11), Err(Limit::NodeMemory));
        assert_eq!(second.grow_memory(0, 10), Ok(()));
        drop(first);
        assert_eq!(second.grow_memory(10, 70), Ok(()));
        assert_eq!(used.get(), 70);
        drop(second);
        assert_eq!(used.get(), 0);
    }

    #[test]
    fn a_table_may_grow_to_its_limit_and_no_further() {
        let limiter = StoreLimiter::new(&Limits::default(), NodeMemory::unlimited());
        assert_eq!(limiter.grow_table(20_000), Ok(()));
        assert_eq!(limiter.grow_table(20_001), Err(Limit::TableElements));
    }
}
