//! The settings of requests that guests make.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::limits::milliseconds;

/// The settings of requests that guests make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboundConfig {
    /// Permits all addresses that are not public: loopback, private, link-local and others. A
    /// function's own list of hosts must lead there, too.
    pub allow_private: bool,
    /// Permits these of them.
    pub permit: Vec<AddressRange>,
    /// Addresses that no function may call, whatever else is permitted.
    pub deny: Vec<AddressRange>,
    /// Permits calls of this gateway's functions by its own address.
    pub allow_data_plane: bool,
    /// Who resolves names.
    pub resolver: NameSource,
    /// Names that are resolved at once.
    pub lookups: usize,
    /// Names that are resolved at once for one function.
    pub lookups_per_function: usize,
    /// A file of certificates (PEM) of authorities that are trusted besides those that browsers
    /// trust. Empty: none.
    pub ca_file: String,
    /// Time to resolve a name and open a connection.
    #[serde(rename = "connect_ms", with = "milliseconds")]
    pub connect: Duration,
    /// Time for a TLS handshake.
    #[serde(rename = "tls_ms", with = "milliseconds")]
    pub tls: Duration,
    /// Time from the request to the head of its response.
    #[serde(rename = "first_byte_ms", with = "milliseconds")]
    pub first_byte: Duration,
    /// Time between two parts of a response's body.
    #[serde(rename = "between_bytes_ms", with = "milliseconds")]
    pub between_bytes: Duration,
    /// Bytes of a response's head.
    pub header_bytes: usize,
    /// Header fields of a response.
    pub headers: usize,
    /// Bytes of a response's body.
    pub response_bytes: u64,
    /// Requests that one invocation may make.
    pub per_invocation: u32,
    /// Requests that one invocation may have open at once.
    pub at_once: usize,
    /// How long an idle connection is kept for the function's next request.
    #[serde(rename = "idle_ms", with = "milliseconds")]
    pub idle: Duration,
    /// IdleConnections connections of one function.
    pub idle_per_function: usize,
    /// IdleConnections connections of all functions.
    pub idle_connections: usize,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            allow_private: false,
            permit: Vec::new(),
            deny: Vec::new(),
            allow_data_plane: false,
            resolver: NameSource::default(),
            lookups: 512,
            lookups_per_function: 16,
            ca_file: String::new(),
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            between_bytes: Duration::from_secs(30),
            header_bytes: 64 << 10,
            headers: 100,
            response_bytes: 10 << 20,
            per_invocation: 50,
            at_once: 6,
            // Common servers close an idle connection after 5 seconds. The client should close it
            // first, or a request meets a closed connection.
            idle: Duration::from_secs(4),
            idle_per_function: 6,
            idle_connections: 256,
        }
    }
}

impl OutboundConfig {
    /// The contents of `ca_file`.
    pub(super) fn authorities(&self) -> io::Result<Vec<u8>> {
        if self.ca_file.is_empty() {
            return Ok(Vec::new());
        }
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.ca_file));
        fs::read(&self.ca_file).map_err(named)
    }
}

/// Who resolves names. In the settings an empty text, `system`, or `IP:PORT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum NameSource {
    /// The gateway itself, by this machine's hosts file and name servers.
    #[default]
    Machine,
    /// The operating system, which blocks a thread for each name.
    System,
    /// This name server, and no other.
    Server(SocketAddr),
}

/// Why a text is not a [`NameSource`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected IP:PORT or [IPv6]:PORT of a name server, or \"system\"")]
pub struct NotANameSource;

impl FromStr for NameSource {
    type Err = NotANameSource;

    fn from_str(text: &str) -> Result<Self, NotANameSource> {
        match text {
            "" => Ok(Self::Machine),
            "system" => Ok(Self::System),
            address => address.parse().map(Self::Server).map_err(|_| NotANameSource),
        }
    }
}

impl TryFrom<String> for NameSource {
    type Error = NotANameSource;

    fn try_from(text: String) -> Result<Self, NotANameSource> {
        text.parse()
    }
}

impl From<NameSource> for String {
    fn from(source: NameSource) -> Self {
        match source {
            NameSource::Machine => Self::new(),
            NameSource::System => "system".to_owned(),
            NameSource::Server(address) => address.to_string(),
        }
    }
}

/// Addresses that begin alike: `10.0.0.0/8`, `fd00::/8`, or one alone: `192.0.2.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange(IpNet);

/// Why a text is not an [`AddressRange`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of addresses: write for example \"10.1.0.0/16\" or \"fd00::7\"")]
pub struct NotARange(String);

impl AddressRange {
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }
}

impl FromStr for AddressRange {
    type Err = NotARange;

    fn from_str(text: &str) -> Result<Self, NotARange> {
        let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        range.map(Self).map_err(|_| NotARange(text.to_owned()))
    }
}

impl TryFrom<String> for AddressRange {
    type Error = NotARange;

    fn try_from(text: String) -> Result<Self, NotARange> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        range.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_range_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0", "x", "::/129", "10.0.0.1:80"] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_configuration_survives_writing_and_reading() {
        let json = r#"{"permit":["10.1.0.0/16","fd00::7"],"resolver":"[::1]:53","connect_ms":7}"#;
        let config: OutboundConfig = serde_json::from_str(json).unwrap();
        assert_eq!(config.resolver, NameSource::Server("[::1]:53".parse().unwrap()));
        assert_eq!(config.connect, Duration::from_millis(7));
        assert_eq!(config.tls, OutboundConfig::default().tls);
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<OutboundConfig>(&written).unwrap(), config);
        let default = serde_json::to_value(OutboundConfig::default()).unwrap();
        assert_eq!(default["resolver"], "");
        assert_eq!(String::from("system".parse::<NameSource>().unwrap()), "system");
        assert!("ns.example".parse::<NameSource>().is_err());
        assert!(serde_json::from_str::<OutboundConfig>(r#"{"connect":7}"#).is_err());
    }
}
