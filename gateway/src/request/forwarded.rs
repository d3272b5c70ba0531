//! Header fields about the way of a request, such as `x-forwarded-for`.
//!
//! Every client can set them. The gateway believes only the proxies that the operator trusts, and
//! removes the fields of all other peers.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    config::{FieldNames, TrustedProxies},
    server::{CertificateId, Peer},
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
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

/// Header fields in which content delivery networks name the client. A function that believed them
/// would believe any client of any proxy.
const CLIENT_ADDRESS: [&str; 9] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "fastly-client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-originating-ip",
];

/// The client of a request, as far as the gateway believes what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestClient {
    pub(crate) addr: SocketAddr,
    /// Whether it speaks HTTPS: with the gateway, or with a trusted proxy that says so.
    pub(crate) https: bool,
    /// Whether it is on this machine. One behind a trusted proxy is only if the proxy says so.
    pub(crate) local: bool,
}

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

    /// Whether the connection is encrypted by a client that speaks for one host at a time, and with
    /// which owner's certificate. A trusted proxy speaks for many hosts.
    pub(crate) fn certificate(&self) -> Option<Option<CertificateId>> {
        (self.peer.tls && !self.peer.trusted).then_some(self.peer.certificate)
    }

    /// The peer's end of the connection.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer.addr
    }

    /// Removes the fields that the client may not set, and those that the operator does not want,
    /// adds those that the function should see, and returns the client.
    pub(crate) fn rewrite(
        &self,
        headers: &mut HeaderMap,
        proxies: &TrustedProxies,
        unwanted: &FieldNames,
    ) -> RequestClient {
        let named = headers.get_all(header::CONNECTION).iter().filter_map(named_fields);
        let named: Vec<HeaderName> = named.flatten().collect();
        let forwarded = if self.peer.trusted { self.forwarded(headers, proxies) } else { None };
        let trusted = self.peer.trusted;
        remove(headers, |name| {
            is_hop_by_hop(name)
                || named.contains(name)
                || is_never_passed_on(name.as_str())
                || (!trusted && is_forwarding_field(name.as_str()))
                || unwanted.contains(name.as_str())
        });
        let local = forwarded
            .as_ref()
            .map_or(!trusted && is_local(self.peer.addr), |(addr, _)| is_local(*addr));
        let (addr, chain) = forwarded.unwrap_or((self.peer.addr, self.address.clone()));
        headers.insert(FORWARDED_FOR, chain);
        let told = headers.get(FORWARDED_PROTO).and_then(told_scheme);
        let https = told.unwrap_or(self.peer.tls);
        let proto = if https { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
        RequestClient { addr, https, local }
    }

    /// The client that trusted proxies name.
    pub(crate) fn named_client(
        &self,
        headers: &HeaderMap,
        proxies: &TrustedProxies,
    ) -> Option<IpAddr> {
        let named = self.peer.trusted.then(|| self.forwarded(headers, proxies)).flatten();
        named.map(|(client, _)| client.ip())
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

fn is_local(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

/// Whether a trusted proxy says that the client speaks HTTPS. Of several proxies the first one
/// speaks with the client.
fn told_scheme(value: &HeaderValue) -> Option<bool> {
    let first = value.to_str().ok()?.split(',').next()?.trim();
    let is = |scheme: &str| first.eq_ignore_ascii_case(scheme);
    if is("https") || is("wss") { Some(true) } else { (is("http") || is("ws")).then_some(false) }
}

/// Tells the function the path that the client used for its root, `mount`, after the prefix that a
/// trusted proxy has taken away.
pub(crate) fn tell_mount(headers: &mut HeaderMap, mount: &HeaderValue) {
    let before = headers.get(FORWARDED_PREFIX).map(|prefix| prefix.as_bytes());
    let prefix = match before.map(|prefix| prefix.strip_suffix(b"/").unwrap_or(prefix)) {
        Some(prefix @ [b'/', ..]) => {
            HeaderValue::from_bytes(&[prefix, mount.as_bytes()].concat()).ok()
        }
        _ => None,
    };
    headers.insert(FORWARDED_PREFIX, prefix.unwrap_or_else(|| mount.clone()));
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

/// Whether a name begins with `prefix`. `_` counts as `-`, because CGI programs cannot tell them
/// apart.
fn begins_with(name: &str, prefix: &str) -> bool {
    let normalized = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
    name.len() >= prefix.len() && normalized.take(prefix.len()).eq(prefix.bytes())
}

fn is(name: &str, other: &str) -> bool {
    name.len() == other.len() && begins_with(name, other)
}

/// Whether a field is about the way of a request. A trusted proxy may set these.
fn is_forwarding_field(name: &str) -> bool {
    match name.as_bytes() {
        [b'x', ..] => begins_with(name, "x-forwarded-") || is(name, "x-real-ip"),
        [b'f', ..] => name == "forwarded",
        _ => false,
    }
}

/// Whether a field belongs to the gateway, or is one of those by which a client of a trusted proxy
/// could pose as another: proxies do not know all of them, nor those with `_`.
fn is_never_passed_on(name: &str) -> bool {
    match name.as_bytes() {
        [b'm', ..] => begins_with(name, OWN_PREFIX),
        [b'c' | b'f' | b't' | b'x', ..] => {
            CLIENT_ADDRESS.iter().any(|field| is(name, field))
                || (name.contains('_') && is_forwarding_field(name))
        }
        _ => false,
    }
}

/// Removes the trailers of a request that no client may set. All that concern its way are in its head.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| {
        is_never_passed_on(name.as_str()) || is_forwarding_field(name.as_str())
    });
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
        let peer = Peer {
            addr,
            trusted: proxies.contains(addr.ip()),
            tls: false,
            certificate: None,
            local_user: None,
        };
        let unwanted = FieldNames::parse(&["X-Original_URL"]).unwrap();
        ConnectionOrigin::new(peer).rewrite(headers, &proxies, &unwanted).addr.ip().to_string()
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
    fn a_clients_fields_do_not_pass_a_trusted_proxy() {
        let mut sent = headers(&[
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "HTTPS, http"),
            ("x-forwarded-host", "a.example"),
            ("x_forwarded_host", "evil"),
            ("x_real_ip", "1.1.1.1"),
            ("mayfly-outcome", "function"),
            (concat!("mayfly", "_outcome"), "function"),
            ("true-client-ip", "1.1.1.1"),
            ("true_client_ip", "1.1.1.1"),
            ("cf-connecting-ip", "1.1.1.1"),
            ("x-client-ip", "1.1.1.1"),
            ("fastly-client-ip", "1.1.1.1"),
            ("x-original-url", "/admin"),
            ("x_original_url", "/admin"),
            ("cookie", "a=1"),
        ]);
        assert_eq!(rewritten(&mut sent, "10.0.0.1"), "203.0.113.7");
        let expected = headers(&[
            ("x-forwarded-for", "203.0.113.7, 10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example"),
            ("cookie", "a=1"),
        ]);
        assert_eq!(sent, expected);
    }

    #[test]
    fn the_scheme_is_the_clients_as_far_as_it_is_known() {
        let proxies = TrustedProxies::parse(&["10.0.0.0/8"]).unwrap();
        for (peer, tls, told, https) in [
            ("192.0.2.1", false, "https", false),
            ("192.0.2.1", true, "http", true),
            ("10.0.0.1", false, "https", true),
            ("10.0.0.1", false, "https, http", true),
            ("10.0.0.1", true, "http", false),
            ("10.0.0.1", true, "nonsense", true),
            ("10.0.0.1", false, "WSS", true),
        ] {
            let mut sent = headers(&[("x-forwarded-proto", told)]);
            let addr = SocketAddr::new(peer.parse().unwrap(), 5);
            let peer = Peer {
                addr,
                trusted: proxies.contains(addr.ip()),
                tls,
                certificate: None,
                local_user: None,
            };
            let client =
                ConnectionOrigin::new(peer).rewrite(&mut sent, &proxies, &FieldNames::default());
            assert_eq!(client.https, https, "{peer:?} {told}");
            assert_eq!(sent["x-forwarded-proto"], if https { "https" } else { "http" });
        }
    }

    #[test]
    fn a_client_is_local_by_its_own_address_alone() {
        let proxies = TrustedProxies::parse(&["127.0.0.1"]).unwrap();
        for (peer, told, local) in [
            ("127.0.0.2", "", true),
            ("::1", "", true),
            ("192.0.2.1", "127.0.0.2", false),
            ("127.0.0.1", "", false),
            ("127.0.0.1", "192.0.2.1", false),
            ("127.0.0.1", "127.0.0.2", true),
        ] {
            let mut sent = headers(&[("x-forwarded-for", told)]);
            let addr = SocketAddr::new(peer.parse().unwrap(), 5);
            let peer = Peer {
                addr,
                trusted: proxies.contains(addr.ip()),
                tls: false,
                certificate: None,
                local_user: None,
            };
            let client =
                ConnectionOrigin::new(peer).rewrite(&mut sent, &proxies, &FieldNames::default());
            assert_eq!(client.local, local, "{peer:?} {told}");
        }
    }

    #[test]
    fn a_function_learns_its_mount_after_the_prefix_of_a_trusted_proxy() {
        for (before, told) in [
            (None, "/f/hello"),
            (Some("/api"), "/api/f/hello"),
            (Some("/api/"), "/api/f/hello"),
            (Some("api"), "/f/hello"),
            (Some("/"), "/f/hello"),
        ] {
            let before: Vec<_> =
                before.iter().map(|value| ("x-forwarded-prefix", *value)).collect();
            let mut headers = headers(&before);
            tell_mount(&mut headers, &HeaderValue::from_static("/f/hello"));
            assert_eq!(headers["x-forwarded-prefix"], told, "{before:?}");
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
