//! All settings of a gateway.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use gateway_api::LimitValues;
use runtime_pool::{GuestLimits, OutboundConfig};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::sections::{
    AdmissionSettings, CompileSection, FlowsSection, LogsSection, MetricsSection, PoolSection,
    QueueSection, QuotasSection, ServerSection, StoresSection, UploadsSection,
    address::deserialize_address,
};

/// The control plane's Unix socket, in the data directory.
pub const CONTROL_SOCKET: &str = "control.sock";

/// Requests that each client address may have in flight on the smallest node: a function's slots.
const CLIENT_MIN: usize = 64;

/// Settings that are numbers, by section and key.
pub type Numbers = BTreeMap<String, BTreeMap<String, u64>>;

/// Every setting of a gateway, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the database, the artifacts, the native code and the first token are kept.
    pub data_dir: PathBuf,
    /// Address of the data plane, which serves invocations.
    #[serde(deserialize_with = "deserialize_address")]
    pub listen: SocketAddr,
    /// Address of the control plane, which serves the API, metrics and probes.
    #[serde(deserialize_with = "deserialize_address")]
    pub admin_listen: SocketAddr,
    /// Base of the URLs in answers; empty stands for `http://<listen>`. See [`Self::public_base`].
    pub public_url: String,
    /// Permits a control plane without TLS on an address that other machines can reach.
    pub insecure_admin: bool,
    /// Permits a data directory that other users of the machine own or could change.
    pub insecure_data_dir: bool,
    /// Limits of functions whose owners do not ask for others.
    pub limits: LimitValues,
    /// The most that an owner may ask for.
    pub ceilings: LimitValues,
    /// Limits for the guests of all functions alike.
    pub guests: GuestLimits,
    /// How many functions and instances are in memory.
    pub pool: PoolSection,
    /// The compiler and its child process.
    pub compile: CompileSection,
    /// Limits for an artifact.
    pub uploads: UploadsSection,
    /// Limits for all artifacts and functions of this node.
    pub quotas: QuotasSection,
    /// Calls that wait to be made.
    pub queue: QueueSection,
    /// Functions that are called one after the other.
    pub flows: FlowsSection,
    /// What guests keep.
    pub stores: StoresSection,
    /// Both listeners, and the admission of requests.
    pub server: ServerSection,
    /// Requests that guests make.
    pub outbound: OutboundConfig,
    /// The gateway's log, and how much is kept of the guests' logs.
    pub logs: LogsSection,
    /// The metrics.
    pub metrics: MetricsSection,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080),
            admin_listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9090),
            public_url: String::new(),
            insecure_admin: false,
            insecure_data_dir: false,
            limits: LimitValues::of(|row| row.default),
            ceilings: LimitValues::of(|row| row.ceiling),
            guests: GuestLimits::default(),
            pool: PoolSection::default(),
            compile: CompileSection::default(),
            uploads: UploadsSection::default(),
            quotas: QuotasSection::default(),
            queue: QueueSection::default(),
            flows: FlowsSection::default(),
            stores: StoresSection::default(),
            server: ServerSection::default(),
            outbound: OutboundConfig::default(),
            logs: LogsSection::default(),
            metrics: MetricsSection::default(),
        }
    }
}

impl Config {
    /// Every setting that is a number, by section, as it holds: a 0 that stands for another value
    /// is replaced by that value.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let mut held = self.clone();
        held.pool.memory_bytes = self.pool.memory_budget();
        held.pool.loads = self.pool.load_count();
        held.compile.jobs = self.compile.job_count();
        held.queue.workers = self.queue.worker_count();
        held.server.admission.workers = self.server.admission.worker_count();
        held.server.admission.in_flight_per_address = self.in_flight_per_address();
        let listener = &self.server.listener;
        held.server.listener.connections_per_address = listener.connections_per_address_max();
        let sections = Table::try_from(&held).unwrap_or_default();
        let numbers = |section: &Table| -> BTreeMap<String, u64> {
            let number = |value: &Value| u64::try_from(value.as_integer()?).ok();
            section.iter().filter_map(|(key, value)| Some((key.clone(), number(value)?))).collect()
        };
        sections
            .iter()
            .filter_map(|(name, section)| Some((name.clone(), numbers(section.as_table()?))))
            .filter(|(_, numbers)| !numbers.is_empty())
            .collect()
    }

    /// Requests of one client address that may be in flight. By default a quarter of what the node
    /// can serve at once, and as many as one function serves by default.
    #[must_use]
    pub fn in_flight_per_address(&self) -> usize {
        let AdmissionSettings { in_flight, in_flight_per_address, .. } = self.server.admission;
        match in_flight_per_address {
            0 => (in_flight.min(self.pool.instances) / 4).max(CLIENT_MIN),
            some => some,
        }
    }

    /// The base of the URLs in answers, without a slash at its end.
    ///
    /// `bound` is the address that the data plane is bound to: it differs from [`Self::listen`]
    /// when that has port 0. A client cannot connect to an address that means "all", so this
    /// machine's own address takes its place.
    #[must_use]
    pub fn public_base(&self, bound: SocketAddr) -> String {
        if !self.public_url.is_empty() {
            return self.public_url.trim_end_matches('/').to_owned();
        }
        let host: IpAddr = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        let scheme = if self.server.tls.tls_cert.is_empty() { "http" } else { "https" };
        format!("{scheme}://{}", SocketAddr::new(host, bound.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_base_is_one_that_a_caller_can_reach() {
        let mut config = Config::default();
        let base = |config: &Config, bound: &str| config.public_base(bound.parse().unwrap());
        assert_eq!(base(&config, "127.0.0.1:8080"), "http://127.0.0.1:8080");
        assert_eq!(base(&config, "0.0.0.0:81"), "http://127.0.0.1:81");
        assert_eq!(base(&config, "[::]:81"), "http://[::1]:81");
        config.public_url = "https://functions.example/".to_owned();
        assert_eq!(base(&config, "0.0.0.0:81"), "https://functions.example");
    }
}
