//! Header fields about the way of a request, such as `x-forwarded-for`.
//!
//! Every client can set them. The gateway believes only the proxies that the operator trusts, and
//! removes the fields of all other peers.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{config::TrustedProxies, server::Peer};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The prefix of the header fields that only the gateway may set.
pub(crate) const OWN_PREFIX: &str = "mayfly-";
/// Header fields that concern one connection and are not forwarded.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Where the requests of one connection come from.
#[derive(Debug)]
pub(crate) struct ConnectionOrigin {
    peer: Peer,
    /// The address of the peer as text.
    address: HeaderValue,
}

impl ConnectionOrigin {
    pub(crate) fn new(peer: Peer) -> Self {
        let text = peer.addr.ip().to_canonical().to_string();
        let address = HeaderValue::from_maybe_shared(Bytes::from(text))
            .expect("an address is a valid header value");
        Self { peer, address }
    }

    /// Removes the fields that the client may not set, adds those that the function should see, and
    /// returns the address of the client.
    pub(crate) fn rewrite(&self, headers: &mut HeaderMap, proxies: &TrustedProxies) -> SocketAddr {
        let named = headers.get_all(header::CONNECTION).iter().filter_map(named_fields);
        let named: Vec<HeaderName> = named.flatten().collect();
        let forwarded = if self.peer.trusted { self.forwarded(headers, proxies) } else { None };
        remove(headers, |name| is_hop_by_hop(name) || named.contains(name));
        if !self.peer.trusted {
            remove(headers, |name| is_forwarding_field(name.as_str()));
        }
        let (client, chain) = forwarded.unwrap_or((self.peer.addr, self.address.clone()));
        headers.insert(FORWARDED_FOR, chain);
        if !self.peer.trusted || !headers.contains_key(FORWARDED_PROTO) {
            let proto = if self.peer.tls { "https" } else { "http" };
            headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
        }
        client
    }

    /// The client that trusted proxies name, and the chain of addresses from there to here.
    fn forwarded(
        &self,
        headers: &HeaderMap,
        proxies: &TrustedProxies,
    ) -> Option<(SocketAddr, HeaderValue)> {
        let values = headers.get_all(FORWARDED_FOR).iter();
        let lists: Vec<&str> = values.map(|value| value.to_str().ok()).collect::<Option<_>>()?;
        let named: Vec<&str> = lists.iter().flat_map(|list| list.split(',')).collect();
        // Backwards from here, as long as the address that added an entry is trusted.
        let mut chain = Vec::new();
        for entry in named.iter().rev() {
            let Some(ip) = address(entry.trim()) else { break };
            chain.push(ip);
            if !proxies.contains(ip) {
                break;
            }
        }
        let client = SocketAddr::new(*chain.last()?, 0);
        let chain: Vec<String> = chain.iter().rev().map(ToString::to_string).collect();
        let chain = format!("{}, {}", chain.join(", "), self.peer.addr.ip().to_canonical());
        Some((client, HeaderValue::try_from(chain).ok()?))
    }
}

/// An address, with or without a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port).map(|ip: IpAddr| ip.to_canonical())
}

/// The fields that a `connection` field names, apart from its options and fields that must stay.
fn named_fields(value: &HeaderValue) -> Option<impl Iterator<Item = HeaderName>> {
    let names = value.to_str().ok()?.split(',').map(str::trim);
    let is_option = |name: &&str| {
        !["keep-alive", "close", "upgrade", "host", "content-length"]
            .iter()
            .any(|option| name.eq_ignore_ascii_case(option))
    };
    Some(names.filter(is_option).filter_map(|name| HeaderName::try_from(name).ok()))
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str())
}

/// Whether a field is about the way of a request, or belongs to the gateway. `_` counts as `-`,
/// because CGI programs cannot tell them apart.
fn is_forwarding_field(name: &str) -> bool {
    let is = |prefix: &str| {
        let normalized = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
        name.len() >= prefix.len() && normalized.take(prefix.len()).eq(prefix.bytes())
    };
    match name.as_bytes() {
        [b'x', ..] => is("x-forwarded-") || (name.len() == 9 && is("x-real-ip")),
        [b'f', ..] => name == "forwarded",
        [b'm', ..] => is(OWN_PREFIX),
        _ => false,
    }
}

/// Removes the fields for which `unwanted` holds. Most requests have none.
pub(crate) fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    if headers.keys().any(&unwanted) {
        let names: Vec<HeaderName> =
            headers.keys().filter(|name| unwanted(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn rewritten(headers: &mut HeaderMap, peer: &str) -> String {
        let proxies = TrustedProxies::parse(&["10.0.0.0/8", "192.0.2.9"]).unwrap();
        let addr = SocketAddr::new(peer.parse().unwrap(), 5);
        let peer =
            Peer { addr, trusted: proxies.contains(addr.ip()), tls: false, local_user: None };
        ConnectionOrigin::new(peer).rewrite(headers, &proxies).ip().to_string()
    }

    /// Case H17.
    #[test]
    fn forwarding_fields_of_untrusted_peers_are_removed() {
        let mut sent = headers(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x_forwarded_host", "evil"),
            ("x-forwarded-anything", "1"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
            ("mayfly-outcome", "function"),
            ("connection", "x-one, close, host, content-length"),
            ("x-one", "1"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("proxy-authorization", "Basic x"),
            ("host", "a"),
            ("x-two", "2"),
        ]);
        assert_eq!(rewritten(&mut sent, "192.0.2.1"), "192.0.2.1");
        let expected = headers(&[
            ("host", "a"),
            ("x-two", "2"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(sent, expected);
    }

    /// Case H17.
    #[test]
    fn the_chain_is_believed_up_to_the_first_untrusted_address() {
        for (chain, client, way) in [
            ("203.0.113.7", "203.0.113.7", "203.0.113.7, 10.0.0.1"),
            ("1.1.1.1, 203.0.113.7", "203.0.113.7", "203.0.113.7, 10.0.0.1"),
            ("203.0.113.7, 192.0.2.9", "203.0.113.7", "203.0.113.7, 192.0.2.9, 10.0.0.1"),
            ("10.0.0.2", "10.0.0.2", "10.0.0.2, 10.0.0.1"),
            ("[2001:db8::1]:80", "2001:db8::1", "2001:db8::1, 10.0.0.1"),
            ("unknown, 203.0.113.7:81", "203.0.113.7", "203.0.113.7, 10.0.0.1"),
            ("nonsense", "10.0.0.1", "10.0.0.1"),
        ] {
            let mut sent = headers(&[("x-forwarded-for", chain), ("x-forwarded-proto", "https")]);
            assert_eq!(rewritten(&mut sent, "10.0.0.1"), client, "{chain}");
            assert_eq!(sent["x-forwarded-for"], way, "{chain}");
            assert_eq!(sent["x-forwarded-proto"], "https");
        }
    }

    #[test]
    fn ranges_and_addresses_may_be_trusted() {
        let proxies = TrustedProxies::parse(&["10.0.0.0/8", "2001:db8::1"]).unwrap();
        assert!(proxies.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(proxies.contains("2001:db8::1".parse().unwrap()));
        assert!(!proxies.contains("2001:db8::2".parse().unwrap()));
        assert!(TrustedProxies::parse(&["10.0.0.0/33"]).is_none());
        assert!(TrustedProxies::parse(&["proxy.example"]).is_none());
    }
}
