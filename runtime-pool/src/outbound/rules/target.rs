//! The target of a request, parsed in one way only.
//!
//! `0x7f.1`, `127.1` and `127.0.0.1` are one address, `BÜCHER.example.` and
//! `xn--bcher-kva.example` one name. Grants and requests are both parsed here, so that a host means
//! the same when it is checked and when it is dialled.

use std::fmt;

use http::{Method, Uri, uri::Scheme};
use url::Host;

/// The server that a request goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Target {
    /// `None` if it is not the address of an `http` or `https` server.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme().filter(|scheme| is_http(scheme))?.clone();
        let authority = uri.authority()?;
        // A user name could hide the real host from a reader.
        if authority.as_str().contains('@') {
            return None;
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().ok().filter(|port| *port != 0)?,
            // A colon without a port, or with a number that is too large.
            None if authority.as_str().len() != authority.host().len() => return None,
            None => default_port(&scheme),
        };
        Some(Self { host: read_host(authority.host())?, scheme, port })
    }

    /// The function that it names, if it is one of this gateway: the host without
    /// `.mayfly.internal`.
    pub(crate) fn function(&self) -> Option<&str> {
        match &self.host {
            Host::Domain(name) => below_functions(name),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }

    /// The value of the header `host`.
    pub(crate) fn authority(&self) -> String {
        if self.port == default_port(&self.scheme) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority())
    }
}

/// The domain below which names are those of functions.
const FUNCTIONS: &str = "mayfly.internal";

/// What a name has before the domain of functions, which may be nothing. `None` if it is not there.
pub(super) fn below_functions(name: &str) -> Option<&str> {
    let before = name.strip_suffix(FUNCTIONS)?;
    if before.is_empty() { Some(before) } else { before.strip_suffix('.') }
}

/// Whether guests may use a method. CONNECT would open a tunnel.
pub(crate) fn is_method(method: &Method) -> bool {
    method != Method::CONNECT
}

fn is_http(scheme: &Scheme) -> bool {
    *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS
}

/// The port of a URL of this scheme that names none.
pub(crate) fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

/// A name in lower case and without a dot at its end, or an address.
pub(crate) fn read_host(text: &str) -> Option<Host> {
    // An escape could stand for any character, even for a dot.
    if text.contains('%') {
        return None;
    }
    let host = Host::parse(text.strip_suffix('.').unwrap_or(text)).ok()?;
    match &host {
        Host::Domain(name) if !is_name(name) => None,
        _ => Some(host),
    }
}

fn is_name(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Option<String> {
        Target::of(&uri.parse().ok()?).map(|target| target.to_string())
    }

    #[test]
    fn every_spelling_of_a_host_is_read_as_the_same() {
        for (uri, same) in [
            ("http://A.com./x", "http://a.com"),
            ("https://a.com:443", "https://a.com"),
            ("http://a.com:443", "http://a.com:443"),
            ("http://127.1/", "http://127.0.0.1"),
            ("http://0x7f.0.0.1/", "http://127.0.0.1"),
            ("http://2130706433/", "http://127.0.0.1"),
            ("http://017700000001/", "http://127.0.0.1"),
            ("http://0/", "http://0.0.0.0"),
            ("http://[0:0::1]:81/", "http://[::1]:81"),
        ] {
            assert_eq!(target(uri).as_deref(), Some(same), "{uri}");
        }
    }

    #[test]
    fn names_below_one_domain_are_functions() {
        let function = |uri: &str| {
            let target = Target::of(&uri.parse().unwrap()).unwrap();
            target.function().map(str::to_owned)
        };
        for (uri, expected) in [
            ("http://greet.mayfly.internal/x", Some("greet")),
            ("http://Prod--Greet.MAYFLY.internal./", Some("prod--greet")),
            ("http://a.b.mayfly.internal/", Some("a.b")),
            ("http://mayfly.internal/", Some("")),
            ("http://xmayfly.internal/", None),
            ("http://mayfly.internal.example/", None),
            ("http://internal/", None),
            ("http://127.0.0.1/", None),
        ] {
            assert_eq!(function(uri).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn an_ambiguous_uri_is_no_target() {
        for uri in [
            "ftp://a.com/",
            "/path",
            "http://user@a.com/",
            "http://a.com:/",
            "http://a.com:0/",
            "http://a.com:99999/",
            "http://a..com/",
            "http://a.com../",
            "http://-a.com/",
            "http://256.1.1.1/",
            "http://1.2.3.4.5/",
            "http://a%2ecom/",
            "http://[fe80::1%251]/",
        ] {
            assert_eq!(target(uri), None, "{uri}");
        }
    }
}
