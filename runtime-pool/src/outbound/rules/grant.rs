//! The servers that a function's settings allow it to call.

use std::{fmt, str::FromStr};

use http::{Method, uri::Scheme};
use url::Host;

use super::target::{Target, below_functions, default_port, is_method, read_host};

/// One entry of a function's list: `api.example.com`, `*.example.com`,
/// `https://api.example.com:8443`, `GET|HEAD https://api.example.com`.
///
/// Without methods it means every method, without a scheme both `http` and `https`, without a
/// port the scheme's own, 80 or 443. `*.example.com` means every name below `example.com` but not
/// that name itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// An empty list stands for every method.
    methods: Vec<Method>,
    scheme: Option<Scheme>,
    host: HostPattern,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    One(Host),
    /// With its leading dot.
    Below(String),
}

/// Why a text is not a [`Grant`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a host: write for example \"api.example.com\", \"*.example.com\", \"https://api.example.com:8443\" or \"GET|HEAD https://api.example.com\""
)]
pub struct NotAGrant(String);

impl Grant {
    /// Whether it allows a request to `target`.
    pub(crate) fn allows(&self, method: &Method, target: &Target) -> bool {
        (self.methods.is_empty() || self.methods.contains(method)) && self.covers(target)
    }

    /// Whether a request to `target` is encrypted, or this grant names a scheme, so that its author
    /// has chosen to send plain text.
    pub(crate) fn allows_plain_text_or_is_https(&self, target: &Target) -> bool {
        self.scheme.is_some() || target.scheme == Scheme::HTTPS
    }

    /// Whether it allows requests to `target` with some method.
    fn covers(&self, target: &Target) -> bool {
        let named = match (&self.host, &target.host) {
            (HostPattern::One(host), target) => host == target,
            (HostPattern::Below(suffix), Host::Domain(name)) => {
                name.len() > suffix.len()
                    && name.ends_with(suffix.as_str())
                    // A star over a network's own names does not mean functions.
                    && (target.function().is_none() || below_functions(&suffix[1..]).is_some())
            }
            (HostPattern::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
        };
        named
            && self.scheme.as_ref().is_none_or(|scheme| *scheme == target.scheme)
            && self.port.unwrap_or_else(|| default_port(&target.scheme)) == target.port
    }
}

impl FromStr for Grant {
    type Err = NotAGrant;

    fn from_str(text: &str) -> Result<Self, NotAGrant> {
        let wrong = || NotAGrant(text.to_owned());
        let (methods, rest) = match text.split_once(' ') {
            Some((methods, rest)) => (read_methods(methods).ok_or_else(wrong)?, rest),
            None => (Vec::new(), text),
        };
        let (scheme, rest) = match rest.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::HTTP), rest),
            Some(("https", rest)) => (Some(Scheme::HTTPS), rest),
            Some(_) => return Err(wrong()),
            None => (None, rest),
        };
        let (host, port) = match rest.rsplit_once(':') {
            // An IPv6 address has colons of its own.
            Some((host, port)) if !rest.ends_with(']') => {
                (host, Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?))
            }
            _ => (rest, None),
        };
        let host = match host.strip_prefix("*.") {
            Some(below) => match read_host(below) {
                // Only a name can have names below it.
                Some(Host::Domain(name)) => HostPattern::Below(format!(".{name}")),
                _ => return Err(wrong()),
            },
            None => HostPattern::One(read_host(host).ok_or_else(wrong)?),
        };
        Ok(Self { methods, scheme, host, port })
    }
}

fn read_methods(text: &str) -> Option<Vec<Method>> {
    let read = |name: &str| {
        // Methods are case-sensitive, so a lower-case one would allow nothing without a warning.
        let upper = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase());
        upper.then(|| Method::from_bytes(name.as_bytes()).ok()).flatten().filter(is_method)
    };
    text.split('|').map(read).collect()
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, method) in self.methods.iter().enumerate() {
            let end = if index + 1 == self.methods.len() { " " } else { "|" };
            write!(f, "{method}{end}")?;
        }
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        match &self.host {
            HostPattern::One(host) => write!(f, "{host}")?,
            HostPattern::Below(suffix) => write!(f, "*{suffix}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allows(grant: &str, uri: &str) -> bool {
        let target = Target::of(&uri.parse().unwrap()).unwrap();
        grant.parse::<Grant>().unwrap().allows(&Method::GET, &target)
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
    fn only_a_star_below_their_domain_means_functions() {
        let greet = "http://greet.mayfly.internal/";
        assert!(allows("greet.mayfly.internal", greet));
        assert!(allows("*.mayfly.internal", greet));
        assert!(!allows("*.internal", greet));
        assert!(allows("*.internal", "http://files.internal/"));
        assert!(!allows("greet.mayfly.internal", "http://other.mayfly.internal/"));
    }

    #[test]
    fn a_scheme_a_port_and_methods_narrow_it() {
        assert!(allows("https://a.com", "https://a.com/"));
        assert!(!allows("https://a.com", "http://a.com/"));
        assert!(allows("127.0.0.1:81", "http://127.0.0.1:81/"));
        assert!(allows("127.0.0.1:81", "http://127.1:81/"));
        assert!(!allows("127.0.0.1:81", "http://127.0.0.1/"));
        assert!(allows("[::1]:81", "http://[::1]:81/"));
        assert!(allows("GET|HEAD a.com", "http://a.com/"));
        assert!(!allows("POST https://a.com", "https://a.com/"));
    }

    #[test]
    fn a_name_of_any_script_means_what_goes_over_the_wire() {
        assert!(allows("BÜCHER.example", "http://xn--bcher-kva.example/"));
        assert!(allows("*.bücher.example", "http://a.xn--bcher-kva.example/"));
        // A cyrillic letter that looks like `a` is another name.
        assert!(!allows("\u{430}.com", "http://a.com/"));
    }

    #[test]
    fn an_invalid_grant_is_refused() {
        for text in [
            "",
            "*",
            "a b",
            "ftp://a.com",
            "a.com/path",
            "a.com:x",
            "a.com:0",
            "-a.com",
            "*.*.com",
            "*.0.0.1",
            "get a.com",
            "GET| a.com",
            "GET  a.com",
            "CONNECT a.com",
            "a..com",
            "u@a.com",
            "*a.com",
            "a.*.com",
            "[::1",
            "a.com:80:90",
        ] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_grant_shows_as_it_is_read(text in r"((GET|POST\|PUT) )?(https?://)?(\*\.)?[a-z]{1,8}(\.[a-z][a-z0-9]{0,7}){0,3}(:[1-9][0-9]{0,3})?") {
            let grant: Grant = text.parse().unwrap();
            prop_assert_eq!(grant.to_string(), text);
        }

        /// Case S07.
        #[test]
        fn a_star_matches_names_below_it_alone(name in "[a-z0-9.-]{0,12}(a|xa|-a|A|a\\.a)?(\\.com|\\.com\\.|\\.com\\.evil|com|\\.co)") {
            let Ok(uri) = format!("http://{name}/").parse() else { return Ok(()) };
            let Some(target) = Target::of(&uri) else { return Ok(()) };
            let allowed = "*.a.com".parse::<Grant>().unwrap().allows(&Method::GET, &target);
            // As in DNS: the last two labels are `a.com`, with at least one label before them.
            let lower = name.to_ascii_lowercase();
            let labels: Vec<&str> = lower.strip_suffix('.').unwrap_or(&lower).split('.').collect();
            let below = labels.len() > 2 && labels.ends_with(&["a", "com"]);
            prop_assert_eq!(allowed, below);
        }

        /// Case S07.
        #[test]
        fn a_name_matches_itself_alone(one in "[a-z]{1,3}(\\.[a-z]{1,3}){0,2}", other in "[a-z]{1,3}(\\.[a-z]{1,3}){0,2}\\.?") {
            let uri = format!("http://{other}/").parse().unwrap();
            let target = Target::of(&uri).unwrap();
            let allowed = one.parse::<Grant>().unwrap().allows(&Method::GET, &target);
            prop_assert_eq!(allowed, other.strip_suffix('.').unwrap_or(&other) == one);
        }

        #[test]
        fn nothing_that_is_read_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Grant>();
        }
    }
}
