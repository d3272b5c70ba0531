//! `[server]`: both listeners, and how requests are admitted.
//!
//! The keys stand side by side in one table. In the program each user has a part of its own.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use runtime_pool::milliseconds;
use serde::{Deserialize, Serialize};

use super::machine::cores;
use crate::config::sizes::{KIB, MIB};

/// Both listeners, the data plane's and the control plane's, and what answers behind them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerSection {
    /// Connections of each listener.
    #[serde(flatten)]
    pub listener: ListenerSettings,
    /// How fast a client must send the body of a request.
    #[serde(flatten)]
    pub min_rate: MinRate,
    /// Proxies in front of the data plane.
    #[serde(flatten)]
    pub proxies: ProxySettings,
    /// Certificates of both listeners.
    #[serde(flatten)]
    pub tls: TlsSettings,
    /// When the data plane refuses requests.
    #[serde(flatten)]
    pub admission: AdmissionSettings,
    /// How requests to functions are treated.
    #[serde(flatten)]
    pub edge: EdgeSettings,
    /// Pause between the answer "not ready" and closing the listeners, for load balancers.
    #[serde(rename = "unready_ms", with = "milliseconds")]
    pub unready: Duration,
    /// Who may ask the control plane, and as what.
    #[serde(flatten)]
    pub control: ControlSettings,
    /// Failures with one token's id from one address in a minute before the control plane answers
    /// 429; 0: any number.
    pub auth_failures_per_minute: u32,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listener: ListenerSettings::default(),
            min_rate: MinRate::default(),
            proxies: ProxySettings::default(),
            tls: TlsSettings::default(),
            admission: AdmissionSettings::default(),
            edge: EdgeSettings::default(),
            unready: Duration::from_secs(5),
            control: ControlSettings::default(),
            auth_failures_per_minute: 10,
        }
    }
}

/// Connections of one listener. Both listeners have the same settings; each counts its own
/// connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerSettings {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address; 0: as many as `connections`. See
    /// [`Self::connections_per_address_max`].
    pub connections_per_address: usize,
    /// TLS handshakes at once.
    pub tls_handshakes: usize,
    /// How long a TLS handshake may take.
    #[serde(rename = "tls_handshake_timeout_ms", with = "milliseconds")]
    pub tls_handshake_timeout: Duration,
    /// How long requests in flight may take to end once the gateway is told to stop.
    #[serde(rename = "drain_ms", with = "milliseconds")]
    pub drain: Duration,
    /// How long a connection may be idle or slow.
    #[serde(flatten)]
    pub timeouts: Timeouts,
    /// What is read of a body after its answer.
    #[serde(flatten)]
    pub linger: LingerLimits,
    /// Limits of the protocols.
    #[serde(flatten)]
    pub http: HttpLimits,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 256,
            tls_handshakes: 256,
            tls_handshake_timeout: Duration::from_secs(10),
            drain: Duration::from_secs(30),
            timeouts: Timeouts::default(),
            linger: LingerLimits::default(),
            http: HttpLimits::default(),
        }
    }
}

impl ListenerSettings {
    /// Connections at once from one address; at most `connections`.
    #[must_use]
    pub fn connections_per_address_max(&self) -> usize {
        match self.connections_per_address {
            0 => self.connections,
            some => some.min(self.connections),
        }
    }
}

/// How long a connection may be idle or slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// Time until the head of a request is complete, and from the accept to the first request.
    #[serde(rename = "header_timeout_ms", with = "milliseconds")]
    pub head: Duration,
    /// Time without a request after that.
    #[serde(rename = "idle_timeout_ms", with = "milliseconds")]
    pub idle: Duration,
    /// Time in which a client reads nothing of a response.
    #[serde(rename = "stall_timeout_ms", with = "milliseconds")]
    pub stall: Duration,
    /// Time that an HTTP/1 client gets for its answer after it has stopped sending. Whether it still
    /// reads shows only when something is written.
    #[serde(rename = "half_close_ms", with = "milliseconds")]
    pub half_close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            // Longer than the 60 seconds of common load balancers. The client should close an idle
            // connection first, or a request meets a closed connection.
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            half_close: Duration::from_secs(1),
        }
    }
}

/// How much of a request's body is read and discarded when its answer comes before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LingerLimits {
    /// Bytes; 0: the connection or the stream ends at once.
    #[serde(rename = "linger_bytes")]
    pub bytes: u64,
    /// Time after the answer.
    #[serde(rename = "linger_ms", with = "milliseconds")]
    pub time: Duration,
}

impl Default for LingerLimits {
    fn default() -> Self {
        Self { bytes: 64 * MIB, time: Duration::from_secs(10) }
    }
}

/// Limits of HTTP/1.1 and HTTP/2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpLimits {
    /// Size of the head of an HTTP/1.1 request.
    pub header_bytes: usize,
    /// Header fields of an HTTP/1.1 request.
    pub headers: usize,
    /// Length of a request's target.
    pub uri_bytes: usize,
    /// Streams that one HTTP/2 connection may have open.
    pub http2_streams: u32,
    /// Size of the head of an HTTP/2 request, counted as in HTTP/1.1.
    pub http2_header_bytes: usize,
    /// HTTP/2 frames a second that only ask for work: PING, SETTINGS and the like.
    pub control_frames_per_s: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            header_bytes: 64 * KIB as usize,
            headers: 100,
            uri_bytes: 8 * KIB as usize,
            http2_streams: 100,
            http2_header_bytes: 64 * KIB as usize,
            control_frames_per_s: 1_000,
        }
    }
}

/// How fast a client must send the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MinRate {
    /// Bytes for each second that the gateway waits for them; 0: as slowly as the client likes.
    #[serde(rename = "body_rate_bytes")]
    pub bytes_per_s: u64,
    /// Time of waiting that does not count for the rate.
    #[serde(rename = "body_grace_ms", with = "milliseconds")]
    pub grace: Duration,
}

impl Default for MinRate {
    fn default() -> Self {
        Self { bytes_per_s: KIB, grace: Duration::from_secs(10) }
    }
}

/// Proxies in front of the data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxySettings {
    /// Proxies that are believed when they name the client of a request.
    #[serde(rename = "trusted_proxies")]
    pub trusted: TrustedProxies,
    /// Whether those begin each connection with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// Header fields of requests that functions never get.
    pub strip_headers: FieldNames,
}

/// Names of header fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct FieldNames(Vec<String>);

impl FieldNames {
    /// `None` if an entry is no name of a header field.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Option<Self> {
        let name = |entry: &T| {
            let name = http::HeaderName::try_from(entry.as_ref()).ok()?;
            Some(name.as_str().replace('_', "-"))
        };
        entries.iter().map(name).collect::<Option<_>>().map(Self)
    }

    /// Whether this is one of them. `_` counts as `-`, because CGI programs cannot tell them apart.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        let normalized = || name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
        self.0.iter().any(|entry| entry.len() == name.len() && entry.bytes().eq(normalized()))
    }
}

impl TryFrom<Vec<String>> for FieldNames {
    type Error = &'static str;

    fn try_from(entries: Vec<String>) -> Result<Self, &'static str> {
        Self::parse(&entries).ok_or("not names of header fields")
    }
}

impl From<FieldNames> for Vec<String> {
    fn from(names: FieldNames) -> Self {
        names.0
    }
}

/// Who may ask the control plane, and as what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlSettings {
    /// Names by which clients reach the control plane, besides `localhost` and addresses.
    pub admin_hosts: Vec<String>,
    /// Whether the metrics and the API's description need no token.
    pub open_metrics: bool,
}

/// Addresses and ranges of the proxies that are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// `None` if an entry is neither an address nor a range.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Option<Self> {
        let range = |entry: &T| {
            let entry = entry.as_ref();
            entry.parse().ok().or_else(|| entry.parse::<IpAddr>().ok().map(IpNet::from))
        };
        entries.iter().map(range).collect::<Option<_>>().map(Self)
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        !self.0.is_empty() && {
            let ip = ip.to_canonical();
            self.0.iter().any(|range| range.contains(&ip))
        }
    }
}

impl TryFrom<Vec<String>> for TrustedProxies {
    type Error = &'static str;

    fn try_from(entries: Vec<String>) -> Result<Self, &'static str> {
        Self::parse(&entries).ok_or("not addresses and ranges of addresses")
    }
}

impl From<TrustedProxies> for Vec<String> {
    fn from(proxies: TrustedProxies) -> Self {
        proxies.0.iter().map(ToString::to_string).collect()
    }
}

/// Certificates of both listeners, as files in PEM. An empty path: no TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSettings {
    /// The data plane's certificate chain.
    pub tls_cert: String,
    /// The private key of `tls_cert`.
    pub tls_key: String,
    /// The control plane's certificate chain.
    pub admin_tls_cert: String,
    /// The private key of `admin_tls_cert`.
    pub admin_tls_key: String,
}

impl TlsSettings {
    /// The data plane's certificate.
    #[must_use]
    pub fn data(&self) -> Option<TlsFiles> {
        TlsFiles::new(&self.tls_cert, &self.tls_key)
    }

    /// The control plane's certificate.
    #[must_use]
    pub fn control(&self) -> Option<TlsFiles> {
        TlsFiles::new(&self.admin_tls_cert, &self.admin_tls_key)
    }
}

/// The files of one listener's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

impl TlsFiles {
    fn new(cert: &str, key: &str) -> Option<Self> {
        (!cert.is_empty()).then(|| Self { cert: cert.into(), key: key.into() })
    }
}

/// When the data plane refuses requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdmissionSettings {
    /// Requests at once, bodies included.
    pub in_flight: usize,
    /// The same for one client address; 0: see [`crate::config::Config::in_flight_per_address`].
    pub in_flight_per_address: usize,
    /// Requests are refused while their guests would wait longer than this for a processor; 0:
    /// never.
    #[serde(rename = "max_lag_ms", with = "milliseconds")]
    pub max_lag: Duration,
    /// Memory that the gateway may use before it refuses requests; 0: what its control group or
    /// the machine has.
    pub memory_bytes: u64,
    /// Threads of the data plane; 0: one for each core. See [`Self::worker_count`].
    pub workers: usize,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        Self {
            in_flight: 2_000,
            in_flight_per_address: 0,
            max_lag: Duration::from_millis(500),
            memory_bytes: 0,
            workers: 0,
        }
    }
}

impl AdmissionSettings {
    /// Threads of the data plane.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        if self.workers == 0 { cores() } else { self.workers }
    }
}

/// How requests to functions are treated.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EdgeSettings {
    /// Gateways like this one that a request may come through.
    pub hops: usize,
    /// Whose requests to the host `{name}.localhost` call the function of that name.
    pub host_routes: HostRoutes,
    /// Whether responses carry `Server-Timing`, unless the function's settings say otherwise.
    pub timing: bool,
    /// Requests whose `mayfly-server-timing` header has this value get the timings, whatever the
    /// function's settings say. Empty: none do.
    pub timing_secret: String,
    /// Copies of requests to channels with a shadow.
    #[serde(flatten)]
    pub shadow: ShadowSettings,
    /// Keys of issuers whose tokens routes take.
    #[serde(flatten)]
    pub issuers: IssuerSettings,
}

/// How long keys of issuers are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IssuerSettings {
    /// The shortest time from one request for the keys of an issuer to the next.
    #[serde(rename = "jwks_refresh_ms", with = "milliseconds")]
    pub refresh: Duration,
    /// How long keys stay known while their issuer does not answer.
    #[serde(rename = "jwks_keep_ms", with = "milliseconds")]
    pub keep: Duration,
}

impl Default for IssuerSettings {
    fn default() -> Self {
        Self { refresh: Duration::from_secs(60), keep: Duration::from_secs(3_600) }
    }
}

/// Bounds for copies of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShadowSettings {
    /// Copies that are made or answered at the same time.
    #[serde(rename = "shadow_calls")]
    pub calls: usize,
    /// Bytes of a body that is copied.
    #[serde(rename = "shadow_body_bytes")]
    pub body_bytes: usize,
}

impl Default for ShadowSettings {
    fn default() -> Self {
        // With both limits reached, 2 MiB of copies.
        Self { calls: 32, body_bytes: 64 << 10 }
    }
}

/// Shows whether there is a secret, and not which.
impl fmt::Debug for EdgeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeSettings")
            .field("hops", &self.hops)
            .field("timing", &self.timing)
            .field("timing_secret", &!self.timing_secret.is_empty())
            .field("shadow", &self.shadow)
            .field("issuers", &self.issuers)
            .finish()
    }
}

impl Default for EdgeSettings {
    fn default() -> Self {
        // Chains of functions that call functions rarely have more than three links.
        Self {
            hops: 8,
            host_routes: HostRoutes::Local,
            timing: true,
            timing_secret: String::new(),
            shadow: ShadowSettings::default(),
            issuers: IssuerSettings::default(),
        }
    }
}

/// Whose requests to the host `{name}.localhost` call the function of that name. A proxy that filters
/// paths does not know that a host can name a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostRoutes {
    /// Those of clients on this machine.
    Local,
    /// Those of all clients.
    All,
    /// Those of no client.
    Off,
}
