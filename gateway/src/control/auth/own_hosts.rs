//! Which requests were made for another host, or by a page of another one?
//!
//! A web page can make its visitor's browser send requests to any address, also to those that only
//! the visitor can reach. If the page's own name is pointed at such an address (DNS rebinding), it
//! can read the answers, too. The browser still says which name it asked for in `host`, and which
//! page asked in `origin`.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, header};

use crate::{
    problem::{Problem, table},
    request::canonical::{CanonicalHost, canonical_host},
};

/// The hosts by which the control plane is asked.
#[derive(Debug)]
pub(crate) struct OwnHosts {
    /// In lower case.
    names: Vec<String>,
    /// Whether only this machine reaches the listener.
    is_local: bool,
}

impl OwnHosts {
    /// `names` are those of the operator, `listener` is where the control plane listens.
    pub(crate) fn new(names: &[String], listener: SocketAddr) -> Self {
        let names = names.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        Self { names: names.collect(), is_local: listener.ip().to_canonical().is_loopback() }
    }

    /// Refuses a request for another host, and one of a page of another host.
    pub(crate) fn check(
        &self,
        host: &CanonicalHost<'_>,
        headers: &HeaderMap,
        tls: bool,
    ) -> Result<(), Problem> {
        if !self.contains(&host.name) {
            return Err(Problem::new(&table::FOREIGN_HOST)
                .detail(format!("{:?} is not a host of this control plane", host.name))
                .hint("The operator can add it to the setting `server.admin_hosts`."));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        if origins.all(|origin| is_of(origin, host, tls)) {
            Ok(())
        } else {
            Err(Problem::new(&table::FOREIGN_ORIGIN).hint(
                "Pages of other hosts and ports, functions' pages included, cannot use the control \
                 plane. Clients that are no browsers should not send `origin`.",
            ))
        }
    }

    fn contains(&self, name: &str) -> bool {
        if name == "localhost" || name.ends_with(".localhost") {
            return true;
        }
        if self.names.iter().any(|own| own == name) {
            return true;
        }
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        // No name server decides where an address leads. Others reach a listener that is open to
        // them by addresses that a container or a router translates and the gateway does not know.
        bare.parse::<IpAddr>().is_ok_and(|ip| !self.is_local || ip.to_canonical().is_loopback())
    }
}

/// Whether `origin` is `host` itself. Without TLS on the listener, a proxy may speak it.
fn is_of(origin: &HeaderValue, host: &CanonicalHost<'_>, tls: bool) -> bool {
    let parsed = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let Some((scheme, authority)) = parsed else { return false };
    let standard = match scheme {
        "https" => "443",
        "http" if !tls => "80",
        _ => return false,
    };
    // Browsers leave the scheme's own port out.
    let port = |port| if port == standard { "" } else { port };
    canonical_host(authority)
        .is_ok_and(|origin| origin.name == host.name && port(origin.port) == port(host.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(hosts: &OwnHosts, host: &str, origin: Option<&'static str>, tls: bool) -> String {
        let host = canonical_host(host).unwrap();
        let headers = origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin)));
        let checked = hosts.check(&host, &headers.into_iter().collect(), tls);
        checked.map_or_else(|problem| problem.slug().to_owned(), |()| "ok".to_owned())
    }

    /// Case A10.
    #[test]
    fn a_host_is_local_an_address_or_named_by_the_operator() {
        let names = ["Admin.example.".to_owned()];
        let local = OwnHosts::new(&names, "127.0.0.1:9090".parse().unwrap());
        let open = OwnHosts::new(&names, "0.0.0.0:9090".parse().unwrap());
        for (host, here, there) in [
            ("localhost:9090", "ok", "ok"),
            ("LOCALHOST", "ok", "ok"),
            ("a.localhost", "ok", "ok"),
            ("127.0.0.1", "ok", "ok"),
            ("127.9.9.9:1", "ok", "ok"),
            ("[::1]:9090", "ok", "ok"),
            ("[::ffff:127.0.0.1]", "ok", "ok"),
            ("admin.example", "ok", "ok"),
            ("ADMIN.example.:9090", "ok", "ok"),
            ("192.0.2.7:9090", "foreign-host", "ok"),
            ("[2001:db8::1]", "foreign-host", "ok"),
            ("rebind.evil.example", "foreign-host", "foreign-host"),
            ("localhost.evil.example", "foreign-host", "foreign-host"),
            ("notlocalhost", "foreign-host", "foreign-host"),
            ("x.admin.example", "foreign-host", "foreign-host"),
            ("127.0.0.1.nip.example", "foreign-host", "foreign-host"),
            ("2130706433", "foreign-host", "foreign-host"),
        ] {
            assert_eq!(outcome(&local, host, None, false), here, "{host}");
            assert_eq!(outcome(&open, host, None, false), there, "{host}");
        }
    }

    /// Case A10.
    #[test]
    fn an_origin_is_the_host_itself() {
        let hosts = OwnHosts::new(&["a.example".to_owned()], "127.0.0.1:9090".parse().unwrap());
        for (host, origin, plain, tls) in [
            ("localhost:9090", "http://localhost:9090", true, false),
            ("localhost:9090", "https://localhost:9090", true, true),
            ("localhost:9090", "http://localhost:8080", false, false),
            ("localhost:9090", "http://f.localhost:9090", false, false),
            ("localhost:9090", "http://127.0.0.1:9090", false, false),
            ("localhost:9090", "null", false, false),
            ("localhost:9090", "", false, false),
            ("localhost:9090", "http://evil.example", false, false),
            ("localhost:9090", "ftp://localhost:9090", false, false),
            ("localhost:9090", "http://localhost:9090/", false, false),
            ("localhost:9090", "http://x@localhost:9090", false, false),
            ("a.example", "https://a.example", true, true),
            ("a.example:443", "https://A.example", true, true),
            ("a.example:80", "http://a.example", true, false),
            ("a.example", "https://a.example:80", false, false),
        ] {
            let expected = |ok| if ok { "ok" } else { "foreign-origin" };
            let what = format!("{origin} at {host}");
            assert_eq!(outcome(&hosts, host, Some(origin), false), expected(plain), "{what}");
            assert_eq!(outcome(&hosts, host, Some(origin), true), expected(tls), "{what}");
        }
    }
}
