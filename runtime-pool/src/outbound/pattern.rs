//! The hosts that a function's settings allow.

use std::{fmt, str::FromStr};

use super::connect::Target;

/// One entry of a function's list of hosts: `api.example.com`, `*.example.com`,
/// `https://api.example.com`, `127.0.0.1:8080`.
///
/// Without a port it means the scheme's own, 80 or 443. `*.example.com` means every name below
/// `example.com` but not that name itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    scheme: Option<http::uri::Scheme>,
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Exact(String),
    /// With its leading dot.
    Below(String),
}

/// Why a text is no [`HostPattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a host: write for example \"api.example.com\", \"*.example.com\" or \"https://api.example.com:8443\""
)]
pub struct NotAHost(String);

impl HostPattern {
    /// Whether a request to `target` is meant.
    pub(crate) fn allows(&self, target: &Target) -> bool {
        let host = match &self.host {
            Host::Exact(name) => target.host == *name,
            Host::Below(suffix) => {
                target.host.len() > suffix.len() && target.host.ends_with(suffix.as_str())
            }
        };
        host && self.scheme.as_ref().is_none_or(|scheme| *scheme == target.scheme)
            && self.port.unwrap_or(target.default_port()) == target.port
    }
}

impl FromStr for HostPattern {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let wrong = || NotAHost(text.to_owned());
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(http::uri::Scheme::HTTP), rest),
            Some(("https", rest)) => (Some(http::uri::Scheme::HTTPS), rest),
            Some(_) => return Err(wrong()),
            None => (None, text),
        };
        let (host, port) = match rest.rsplit_once(':') {
            // An IPv6 address has colons of its own.
            Some((host, port)) if !rest.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| wrong())?))
            }
            _ => (rest, None),
        };
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let host = match host.strip_prefix("*.") {
            Some(below) if is_name(below) && !ends_in_a_number(below) => {
                Host::Below(format!(".{below}"))
            }
            Some(_) => return Err(wrong()),
            None if is_name(host) || is_ipv6(host) => Host::Exact(host.to_owned()),
            None => return Err(wrong()),
        };
        Ok(Self { scheme, host, port })
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

/// No name does: what does is an IPv4 address, which is below nothing.
fn ends_in_a_number(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_ipv6(host: &str) -> bool {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        match &self.host {
            Host::Exact(name) => f.write_str(name)?,
            Host::Below(suffix) => write!(f, "*{suffix}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allows(pattern: &str, uri: &str) -> bool {
        let target = Target::of(&uri.parse().unwrap()).unwrap();
        pattern.parse::<HostPattern>().unwrap().allows(&target)
    }

    #[test]
    fn a_name_means_that_name_on_its_schemes_port() {
        assert!(allows("a.com", "http://a.com/x"));
        assert!(allows("a.com", "https://A.com./x"));
        assert!(allows("a.com", "https://a.com:443/"));
        assert!(!allows("a.com", "https://a.com:8443/"));
        assert!(!allows("a.com", "http://a.com.evil/"));
        assert!(!allows("a.com", "http://b-a.com/"));
        assert!(!allows("a.com", "http://x.a.com/"));
    }

    #[test]
    fn a_star_means_names_below_and_not_the_name_itself() {
        assert!(allows("*.a.com", "http://x.a.com/"));
        assert!(allows("*.a.com", "http://y.x.a.com/"));
        assert!(!allows("*.a.com", "http://a.com/"));
        assert!(!allows("*.a.com", "http://xa.com/"));
        assert!(!allows("*.a.com", "http://x.a.com.evil/"));
    }

    #[test]
    fn a_scheme_and_a_port_narrow_it() {
        assert!(allows("https://a.com", "https://a.com/"));
        assert!(!allows("https://a.com", "http://a.com/"));
        assert!(allows("127.0.0.1:81", "http://127.0.0.1:81/"));
        assert!(!allows("127.0.0.1:81", "http://127.0.0.1/"));
        assert!(allows("[::1]:81", "http://[::1]:81/"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in
            ["", "*", "a b", "ftp://a.com", "a.com/path", "a.com:x", "-a.com", "*.*.com", "*.0.0.1"]
        {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_shows_as_it_is_read(text in r"(https?://)?(\*\.)?[a-z]{1,8}(\.[a-z][a-z0-9]{0,7}){0,3}(:[1-9][0-9]{0,3})?") {
            let pattern: HostPattern = text.parse().unwrap();
            prop_assert_eq!(pattern.to_string(), text);
        }

        #[test]
        fn no_name_but_one_below_matches_a_star(name in "[a-z.-]{1,20}") {
            let Ok(uri) = format!("http://{name}/").parse() else { return Ok(()) };
            let Ok(target) = Target::of(&uri) else { return Ok(()) };
            let allowed = "*.a.com".parse::<HostPattern>().unwrap().allows(&target);
            prop_assert_eq!(allowed, target.host.ends_with(".a.com") && target.host != ".a.com");
        }
    }
}
