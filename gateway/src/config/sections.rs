//! The sections of the settings, with their defaults. The permitted ranges are in `bounds`.

use std::{fs, net::SocketAddr, num::NonZero, thread, time::Duration};

use runtime_pool::{ArtifactLimits, GuestLimits};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::sizes::{GIB, KIB, MIB};
use crate::{request::forwarded::TrustedProxies, server::TlsFiles};

/// What one function may use. `[limits]` holds the defaults, `[ceilings]` the most that an
/// owner may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionLimits {
    /// Linear memory of one instance.
    pub memory_bytes: usize,
    /// CPU time of one invocation.
    pub cpu_ms: u64,
    /// Wall-clock time of one invocation, from admission to the last byte of its response.
    pub timeout_ms: u64,
    /// Invocations that may run at once.
    pub concurrency: usize,
    /// Invocations that may wait for one of those to end.
    pub queue: usize,
    /// How long an invocation may wait in that queue.
    pub queue_wait_ms: u64,
    /// A function that was not called for this long leaves memory.
    pub idle_ms: u64,
    /// Instances that wait for calls even if nobody calls.
    pub min_warm: usize,
    /// Instances that may wait for calls.
    pub max_warm: usize,
    /// Bytes of a response body.
    pub response_bytes: u64,
    /// Bytes of a request body.
    pub request_bytes: u64,
    /// Names and values of the environment together.
    pub environment_bytes: usize,
    /// Standard output and standard error kept per invocation.
    pub log_bytes: usize,
}

impl FunctionLimits {
    /// What holds for a function whose owner asked for nothing.
    #[must_use]
    pub fn defaults() -> Self {
        Self {
            memory_bytes: 128 * MIB as usize,
            cpu_ms: 1_000,
            timeout_ms: 30_000,
            concurrency: 64,
            // Ten times the concurrency: a burst waits a moment, a flood is refused.
            queue: 640,
            queue_wait_ms: 1_000,
            idle_ms: 300_000,
            min_warm: 0,
            max_warm: 8,
            response_bytes: 100 * MIB,
            request_bytes: 100 * MIB,
            environment_bytes: 32 * KIB as usize,
            log_bytes: 64 * KIB as usize,
        }
    }

    /// The most that an owner may ask for, unless the operator says otherwise.
    #[must_use]
    pub fn ceilings() -> Self {
        Self {
            memory_bytes: 512 * MIB as usize,
            cpu_ms: 30_000,
            timeout_ms: 300_000,
            concurrency: 1_024,
            queue: 10_240,
            queue_wait_ms: 10_000,
            idle_ms: 86_400_000,
            min_warm: 16,
            max_warm: 64,
            response_bytes: 10 * GIB,
            request_bytes: 10 * GIB,
            environment_bytes: 64 * KIB as usize,
            log_bytes: MIB as usize,
        }
    }
}

/// What holds for the guests of all functions alike. Each of these guards the host itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestsSection {
    /// Stack for guest code.
    pub stack_bytes: usize,
    /// Elements that each table may grow to.
    pub table_elements: usize,
    /// Live resources that one invocation may hold in the host.
    pub host_resources: usize,
    /// Live component handles that one invocation may hold.
    pub component_handles: usize,
    /// Bytes that one host call may take over from a component.
    pub hostcall_bytes: usize,
    /// The same for preview1 modules.
    pub preview1_hostcall_bytes: usize,
    /// Header fields that one `fields` resource may hold.
    pub field_bytes: usize,
    /// Random data that one call may ask for.
    pub random_bytes: u64,
    /// Bytes of one write to a body.
    pub body_chunk_bytes: usize,
    /// Small writes to a body are merged up to this size before they leave.
    pub merge_bytes: usize,
    /// Writes of nothing to a body before a guest is ended.
    pub empty_writes: usize,
    /// How long a guest may go on after the end of its response.
    pub after_response_ms: u64,
    /// What is kept of a log line.
    pub log_line_bytes: usize,
    /// What one function may log in a second, over all its invocations.
    pub log_bytes_per_second: u64,
    /// How often a guest that computes is looked at, and may have to let others go on.
    pub tick_ms: u64,
}

impl Default for GuestsSection {
    fn default() -> Self {
        let limits = GuestLimits::default();
        Self {
            stack_bytes: limits.stack_bytes,
            table_elements: limits.table_elements,
            host_resources: limits.host_resources,
            component_handles: limits.component_handles,
            hostcall_bytes: limits.hostcall_bytes,
            preview1_hostcall_bytes: limits.preview1_hostcall_bytes,
            field_bytes: limits.field_bytes,
            random_bytes: limits.random_bytes,
            body_chunk_bytes: limits.body_chunk_bytes,
            merge_bytes: limits.merge_bytes,
            empty_writes: limits.empty_writes as usize,
            after_response_ms: limits.after_response.as_millis() as u64,
            log_line_bytes: limits.log_line_bytes,
            log_bytes_per_second: limits.log_bytes_per_second,
            tick_ms: limits.tick.as_millis() as u64,
        }
    }
}

impl GuestsSection {
    /// The same as the pool wants it.
    #[must_use]
    pub fn limits(&self) -> GuestLimits {
        GuestLimits {
            stack_bytes: self.stack_bytes,
            table_elements: self.table_elements,
            host_resources: self.host_resources,
            component_handles: self.component_handles,
            hostcall_bytes: self.hostcall_bytes,
            preview1_hostcall_bytes: self.preview1_hostcall_bytes,
            field_bytes: self.field_bytes,
            random_bytes: self.random_bytes,
            body_chunk_bytes: self.body_chunk_bytes,
            merge_bytes: self.merge_bytes,
            empty_writes: u32::try_from(self.empty_writes).unwrap_or(u32::MAX),
            after_response: Duration::from_millis(self.after_response_ms),
            log_line_bytes: self.log_line_bytes,
            log_bytes_per_second: self.log_bytes_per_second,
            tick: Duration::from_millis(self.tick_ms),
        }
    }
}

/// Functions and instances in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSection {
    /// Instances alive at once, over all functions.
    pub instances: usize,
    /// Linear memory of all instances together; 0 stands for three quarters of the machine's. See
    /// [`Self::memory_budget`].
    pub memory_bytes: u64,
    /// What a slot keeps of an instance's memory for the next one.
    pub keep_bytes: usize,
    /// What resident functions may take: their native code, and 45 KiB for each.
    pub resident_bytes: u64,
    /// Whether functions for WASI 0.3 are served: their engine costs address space of its own.
    pub async_engine: bool,
    /// Functions being loaded at once; 0 stands for twice the cores. See [`Self::load_count`].
    pub loads: usize,
    /// Invocations that may wait for a slot, over all functions.
    pub queue: usize,
    /// Instances that may wait for calls, over all functions.
    pub warm_instances: usize,
    /// Linear memory of all instances that wait.
    pub warm_bytes: u64,
    /// Instances wait unasked only for functions where making one takes at least this long.
    pub warm_from_us: u64,
}

impl Default for PoolSection {
    fn default() -> Self {
        Self {
            instances: 1_000,
            memory_bytes: 0,
            keep_bytes: 8 * MIB as usize,
            resident_bytes: GIB,
            async_engine: true,
            loads: 4,
            queue: 2_000,
            warm_instances: 100,
            warm_bytes: GIB,
            warm_from_us: 250,
        }
    }
}

impl PoolSection {
    /// Functions being loaded at once.
    #[must_use]
    pub fn load_count(&self) -> usize {
        if self.loads == 0 { cores() * 2 } else { self.loads }
    }

    /// Linear memory of all instances together.
    #[must_use]
    pub fn memory_budget(&self) -> u64 {
        // A quarter is left for the code, the connections and everybody else.
        if self.memory_bytes == 0 { memory() / 4 * 3 } else { self.memory_bytes }
    }
}

/// The compiler and its child process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompileSection {
    /// Compilations at once; 0 stands for half of the cores. See [`Self::job_count`].
    pub jobs: usize,
    /// Compilations that may wait for one of those to end.
    pub queue: usize,
    /// Address space of one compilation.
    pub memory_bytes: u64,
    /// CPU time of one compilation.
    pub cpu_s: u64,
    /// Wall-clock time of one compilation.
    pub wall_s: u64,
    /// Native code that one compilation may produce.
    pub output_bytes: u64,
    /// Whether native code of another build is made anew in the background after a start.
    pub renew: bool,
}

impl Default for CompileSection {
    fn default() -> Self {
        Self {
            jobs: 0,
            queue: 32,
            memory_bytes: 3 * GIB,
            cpu_s: 60,
            wall_s: 120,
            output_bytes: 256 * MIB,
            renew: true,
        }
    }
}

impl CompileSection {
    /// Compilations at once. Half of the cores, so that a deploy never takes the machine away
    /// from invocations.
    #[must_use]
    pub fn job_count(&self) -> usize {
        if self.jobs == 0 { (cores() / 2).max(1) } else { self.jobs }
    }
}

/// What may be deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UploadsSection {
    /// Size of one artifact.
    pub artifact_bytes: u64,
    /// Functions of one artifact.
    pub functions: u32,
    /// Data segments.
    pub data_segments: u32,
    /// Element segments.
    pub element_segments: u32,
    /// Imports of its outermost component or module.
    pub imports: u32,
    /// Exports of its outermost component or module.
    pub exports: u32,
    /// Core instances.
    pub core_instances: u32,
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
}

impl Default for UploadsSection {
    fn default() -> Self {
        let limits = ArtifactLimits::default();
        Self {
            artifact_bytes: 50 * MIB,
            functions: limits.functions,
            data_segments: limits.data_segments,
            element_segments: limits.element_segments,
            imports: limits.imports,
            exports: limits.exports,
            core_instances: limits.core_instances,
            memories: limits.memories,
            tables: limits.tables,
        }
    }
}

impl UploadsSection {
    /// The same as the pool wants it.
    #[must_use]
    pub fn limits(&self) -> ArtifactLimits {
        ArtifactLimits {
            functions: self.functions,
            data_segments: self.data_segments,
            element_segments: self.element_segments,
            imports: self.imports,
            exports: self.exports,
            core_instances: self.core_instances,
            memories: self.memories,
            tables: self.tables,
        }
    }
}

/// How much may be deployed on this node, by all owners together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotasSection {
    /// Functions.
    pub functions: usize,
    /// Bytes of all artifacts.
    pub artifact_bytes: u64,
    /// Compilations that deploys may begin within a minute.
    pub compiles_per_minute: usize,
    /// Answered uploads that are remembered for a day by their `idempotency-key`.
    pub idempotency_keys: usize,
}

impl Default for QuotasSection {
    fn default() -> Self {
        Self {
            // Ten times what has been measured on one node.
            functions: 100_000,
            artifact_bytes: 100 * GIB,
            // About what one core compiles of the smallest functions.
            compiles_per_minute: 600,
            // A few megabytes.
            idempotency_keys: 10_000,
        }
    }
}

/// Both listeners: the data plane and the control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSection {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address; 0 stands for as many as `connections`. See
    /// [`Self::connections_per_address_max`].
    pub connections_per_address: usize,
    /// Requests at once, bodies included.
    pub in_flight: usize,
    /// Requests are refused while their guests would wait longer than this for a turn on the
    /// processors; 0 for never.
    pub max_lag_ms: u64,
    /// Memory that the gateway may use before it refuses requests; 0 stands for what its control
    /// group or the machine has.
    pub memory_bytes: u64,
    /// How long a client may take to send the head of a request.
    pub header_timeout_ms: u64,
    /// How long a connection without a request is kept.
    pub idle_timeout_ms: u64,
    /// How long a client may take nothing of an answer.
    pub stall_timeout_ms: u64,
    /// Bytes a second that a client must send of a request's body; 0: as slowly as it likes.
    pub body_rate_bytes: u64,
    /// Time of waiting for a body that does not count for its rate.
    pub body_grace_ms: u64,
    /// How long requests in flight may take to end once the gateway is told to stop.
    pub drain_ms: u64,
    /// Pause between answering "not ready" and closing the listeners, for load balancers.
    pub unready_ms: u64,
    /// Size of a request's head.
    pub header_bytes: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// Length of a request's target.
    pub uri_bytes: usize,
    /// Tokens from one address that may turn out not to be valid, in a minute; 0 stands for any
    /// number.
    pub auth_failures_per_minute: u32,
    /// Gateways like this one that a request may come through.
    pub hops: usize,
    /// Streams that one HTTP/2 connection may have open.
    pub http2_streams: u32,
    /// Size of the header fields of one HTTP/2 request.
    pub http2_header_bytes: usize,
    /// HTTP/2 frames a second that only ask for work: PING, SETTINGS and the like.
    pub control_frames_per_s: u64,
    /// Addresses and ranges of proxies that are believed when they say for whom they speak.
    pub trusted_proxies: Vec<String>,
    /// Whether those begin each connection with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// The data plane's certificate chain, in PEM; empty: no TLS.
    pub tls_cert: String,
    /// The private key of `tls_cert`, in PEM.
    pub tls_key: String,
    /// The control plane's certificate chain, in PEM; empty: no TLS.
    pub admin_tls_cert: String,
    /// The private key of `admin_tls_cert`, in PEM.
    pub admin_tls_key: String,
    /// How long a TLS handshake may take.
    pub tls_handshake_timeout_ms: u64,
    /// TLS handshakes at once.
    pub tls_handshakes: usize,
    /// Whether answers carry `Server-Timing`, for functions whose owners have not said.
    pub timing: bool,
    /// Requests whose `mayfly-server-timing` header has this value get the timings, whatever the
    /// function says. Empty: none do.
    pub timing_secret: String,
    /// Threads of the data plane; 0 stands for one per core. See [`Self::worker_count`].
    pub workers: usize,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 256,
            in_flight: 2_000,
            max_lag_ms: 500,
            memory_bytes: 0,
            header_timeout_ms: 10_000,
            // Longer than the 60 seconds of common load balancers: the one who sends requests
            // should be the one who closes, or a request meets a closed connection.
            idle_timeout_ms: 75_000,
            stall_timeout_ms: 30_000,
            body_rate_bytes: KIB,
            body_grace_ms: 10_000,
            drain_ms: 30_000,
            unready_ms: 5_000,
            header_bytes: 64 * KIB as usize,
            headers: 100,
            uri_bytes: 8 * KIB as usize,
            auth_failures_per_minute: 10,
            // Functions that call functions are seldom more than two or three deep.
            hops: 8,
            http2_streams: 100,
            http2_header_bytes: 16 * KIB as usize,
            control_frames_per_s: 1_000,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            tls_cert: String::new(),
            tls_key: String::new(),
            admin_tls_cert: String::new(),
            admin_tls_key: String::new(),
            tls_handshake_timeout_ms: 10_000,
            tls_handshakes: 256,
            timing: true,
            timing_secret: String::new(),
            workers: 0,
        }
    }
}

impl ServerSection {
    /// Threads of the data plane.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        if self.workers == 0 { cores() } else { self.workers }
    }

    /// The proxies that are believed.
    #[must_use]
    pub(crate) fn trusted(&self) -> TrustedProxies {
        TrustedProxies::parse(&self.trusted_proxies).unwrap_or_default()
    }

    /// The data plane's certificate.
    pub(crate) fn tls(&self) -> Option<TlsFiles> {
        tls_files(&self.tls_cert, &self.tls_key)
    }

    /// The control plane's certificate.
    pub(crate) fn admin_tls(&self) -> Option<TlsFiles> {
        tls_files(&self.admin_tls_cert, &self.admin_tls_key)
    }

    /// Connections at once from one address; never more than there may be at all.
    #[must_use]
    pub fn connections_per_address_max(&self) -> usize {
        match self.connections_per_address {
            0 => self.connections,
            some => some.min(self.connections),
        }
    }
}

/// Requests that guests make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboundSection {
    /// Permits all loopback, private and link-local addresses, for functions whose own list of
    /// hosts leads there.
    pub allow_private: bool,
    /// Permits these of them: `10.1.0.0/16`.
    pub permit: Vec<String>,
    /// Addresses that nobody may call, whatever else is permitted.
    pub deny: Vec<String>,
    /// Permits calling this gateway's functions by its own address.
    pub allow_data_plane: bool,
    /// The name server to ask; empty stands for the operating system.
    pub resolver: String,
    /// A file of certificates (PEM) of authorities that are trusted besides the usual ones.
    pub ca_file: String,
    /// How long connecting may take.
    pub connect_ms: u64,
    /// How long the TLS handshake may take.
    pub tls_ms: u64,
    /// How long the first byte of an answer may take.
    pub first_byte_ms: u64,
    /// How long the pause between two pieces of an answer may be.
    pub between_bytes_ms: u64,
    /// Size of an answer's head.
    pub header_bytes: usize,
    /// Header fields of an answer.
    pub headers: usize,
    /// Size of an answer.
    pub response_bytes: u64,
    /// Requests of one invocation.
    pub per_invocation: usize,
    /// Requests of one invocation at once.
    pub at_once: usize,
    /// How long a connection waits for another request.
    pub idle_ms: u64,
    /// Connections of one function that may wait.
    pub idle_per_function: usize,
    /// Connections of all functions that may wait.
    pub idle_connections: usize,
}

impl Default for OutboundSection {
    fn default() -> Self {
        Self {
            allow_private: false,
            permit: Vec::new(),
            deny: Vec::new(),
            allow_data_plane: false,
            resolver: String::new(),
            ca_file: String::new(),
            connect_ms: 5_000,
            tls_ms: 5_000,
            first_byte_ms: 30_000,
            between_bytes_ms: 30_000,
            header_bytes: 64 * KIB as usize,
            headers: 100,
            response_bytes: 10 * MIB,
            per_invocation: 50,
            at_once: 6,
            // Common servers keep a connection for 5 seconds: who sends requests should be the one
            // who closes, or a request meets a closed connection.
            idle_ms: 4_000,
            idle_per_function: 6,
            idle_connections: 256,
        }
    }
}

/// Our own log, and what is kept of the guests'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsSection {
    /// A level, or several `target=level` joined by commas.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Lines of guests' output kept per function.
    pub lines_per_function: usize,
}

impl Default for LogsSection {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto, lines_per_function: 10_000 }
    }
}

/// How a line of our own log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// The metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSection {
    /// Functions with a label value of their own; those beyond are counted as `other`.
    pub functions: usize,
}

impl Default for MetricsSection {
    fn default() -> Self {
        Self { functions: 1_000 }
    }
}

fn tls_files(cert: &str, key: &str) -> Option<TlsFiles> {
    (!cert.is_empty()).then(|| TlsFiles { cert: cert.into(), key: key.into() })
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// What this machine has of memory, or its container may have.
fn memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * KIB)
    });
    // In a container this is its own limit; outside there is no such file, or it says `max`.
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let container = container.and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(container).min().unwrap_or(4 * GIB)
}

/// `HOST:PORT`, where the host is an IP address or `localhost`: a listener must not depend on
/// what a resolver says.
pub(super) fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

pub(super) fn deserialize_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_address(&text).ok_or_else(|| de::Error::custom("not an address with a port"))
}
