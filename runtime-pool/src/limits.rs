//! The limits of guests, functions and artifacts.

mod artifact;
mod growth;
pub(crate) mod holders;
pub mod milliseconds;
mod node_memory;
mod per_second;
mod scratch;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::artifact::ArtifactLimits;
pub(crate) use self::{
    growth::GrowthLimiter, node_memory::NodeMemory, per_second::PerSecond, scratch::ScratchBudget,
};

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
    /// Bytes that the host keeps for one invocation: header fields, requests, chunks of bodies.
    pub host_bytes: usize,
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
    /// Bytes of a request body of unknown length that are buffered for a program.
    pub buffer_bytes: u64,
    /// Those of them that are buffered in memory; the rest is in a file.
    pub buffer_memory_bytes: usize,
    /// Small writes to a body are merged up to this many bytes before they leave.
    pub merge_bytes: usize,
    /// Empty writes to a body after which a guest is ended: they do nothing but keep the host busy.
    pub empty_writes: u32,
    /// How long a guest may continue after the end of its response.
    #[serde(rename = "after_response_ms", with = "milliseconds")]
    pub after_response: Duration,
    /// Bytes of a log line that are kept.
    pub log_line_bytes: usize,
    /// Bytes of lines that one function may log in a second, over all its invocations.
    pub log_bytes_per_second: u64,
    /// Bytes of a key in a store, with the prefix of its grant.
    pub store_key_bytes: usize,
    /// Bytes of a value in a store.
    pub store_value_bytes: usize,
    /// Bytes of an answer with many keys or values of a store.
    pub store_answer_bytes: usize,
    /// Operations on stores that one invocation may ask for.
    pub store_operations: u64,
    /// Those that one function may ask for in a second, over all its invocations.
    pub store_operations_per_second: u64,
    /// Stores, and values to compare with, that one invocation may have open.
    pub store_handles: usize,
    /// The granularity of CPU limits, and the longest time that one guest keeps a thread to itself.
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
            // Of 64 full `fields`, or 64 open bodies.
            host_bytes: 16 << 20,
            component_handles: 16_384,
            hostcall_bytes: 1 << 20,
            // Go writes megabytes at once.
            preview1_hostcall_bytes: 64 << 20,
            field_bytes: 64 << 10,
            random_bytes: 64 << 10,
            body_chunk_bytes: 64 << 10,
            buffer_bytes: 32 << 20,
            buffer_memory_bytes: 64 << 10,
            // The protocol layers spend hundreds of bytes on each frame, whatever its size.
            merge_bytes: 8 << 10,
            empty_writes: 10_000,
            after_response: Duration::from_secs(1),
            log_line_bytes: 4 << 10,
            log_bytes_per_second: 1 << 20,
            store_key_bytes: 1 << 10,
            // Above it, a store of files is the better place.
            store_value_bytes: 1 << 20,
            // With it, 64 guests that list without end keep 64 MiB.
            store_answer_bytes: 1 << 20,
            store_operations: 1_000,
            store_operations_per_second: 5_000,
            store_handles: 64,
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
    /// Invocations that may wait for a slot.
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
    /// Bytes of the scratch directory of one invocation, which count as its memory. With 0 there is no
    /// such directory.
    pub scratch_bytes: usize,
    /// The limits that are the same for all functions.
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
            scratch_bytes: 0,
            guest: GuestLimits::default(),
        }
    }
}

/// How the invocations of a function are isolated from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Each invocation has a fresh instance.
    #[default]
    Request,
    /// An instance serves invocations one after the other, and its memory persists between them.
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
    /// The name in settings and in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Reuse { .. } => "reuse",
        }
    }
}
