//! Addresses of listeners.

use std::net::SocketAddr;

use serde::{Deserialize as _, Deserializer, de};

/// `HOST:PORT`, where the host is an IP address or `localhost`: a listener must not depend on
/// a resolver.
pub(crate) fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

pub(crate) fn deserialize_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_address(&text).ok_or_else(|| de::Error::custom("not an address with a port"))
}
