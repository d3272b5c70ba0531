//! Where a request goes, read in one way only.
//!
//! `0x7f.1`, `127.1` and `127.0.0.1` are one address, `BÜCHER.example.` and
//! `xn--bcher-kva.example` one name. Grants and requests are both read here, so that no spelling
//! of a host means one thing to the check and another to the dialling.

use std::fmt;

use http::{Method, Uri, uri::Scheme};
use url::Host;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Target {
    /// `None` for what is no address of an `http` or `https` server.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme().filter(|scheme| is_http(scheme))?.clone();
        let authority = uri.authority()?;
        // A user name would only hide where the request really goes.
        if authority.as_str().contains('@') {
            return None;
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().ok().filter(|port| *port != 0)?,
            // A colon and nothing behind it, or too large a number.
            None if authority.as_str().len() != authority.host().len() => return None,
            None => default_port(&scheme),
        };
        Some(Self { host: read_host(authority.host())?, scheme, port })
    }

    /// As the header `host` has it.
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

/// What guests may ask of a server: not to become a tunnel.
pub(crate) fn is_method(method: &Method) -> bool {
    method != Method::CONNECT
}

fn is_http(scheme: &Scheme) -> bool {
    *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS
}

/// The port that a URL of this scheme means when it names none.
pub(crate) fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

/// A name in lower case and without a dot at its end, or an address.
pub(crate) fn read_host(text: &str) -> Option<Host> {
    // An escape could become anything, also a dot.
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
    fn what_is_no_clear_address_is_none() {
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
