//! Finds the function that host and path name.
//!
//! Two routes lead to every function: `/f/{name}/…` on any host, and the host `{name}.localhost`.
//! The second is for clients that may take it (`server.host_routes`), and wins over the first.
//! Both follow from the name, so that a deploy does not change the routes. The catalog knows which
//! revision is active, and swaps it atomically.
//!
//! Revisions and channels have addresses of their own: `/f/{name}@{revision}/…`,
//! `/f/{name}@{channel}/…`, and the hosts `r{revision}--{name}.localhost` and
//! `{channel}--{name}.localhost`.

use crate::functions::name::is_name;

/// Hosts whose first label names a function.
const HOST_SUFFIX: &str = ".localhost";
/// Paths whose second segment names a function.
const PATH_PREFIX: &str = "/f/";

/// The function that an address names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    /// The function's name. It may not exist.
    pub(crate) function: &'a str,
    /// What of it the path names.
    pub(crate) at: At<'a>,
    /// How many bytes at the start of the path name the function. The function sees the rest.
    pub(crate) mount: usize,
}

/// What an address names of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At<'a> {
    /// The function itself.
    Default,
    Revision(u32),
    /// A channel. It may not exist.
    Channel(&'a str),
}

/// Finds the route of a request to `host`, a name without a port, and `path`. Both must be in the
/// canonical form. The host counts only if the client `may_name_hosts`.
pub(crate) fn find<'a>(host: &'a str, path: &'a str, may_name_hosts: bool) -> Option<Route<'a>> {
    may_name_hosts.then(|| by_host(host)).flatten().or_else(|| by_path(path))
}

/// Whether a host names a function.
pub(crate) fn is_function_host(host: &str) -> bool {
    by_host(host).is_some()
}

fn by_host(host: &str) -> Option<Route<'_>> {
    let function = host.strip_suffix(HOST_SUFFIX)?;
    is_name(function).then_some(Route { function, at: At::Default, mount: 0 })
}

/// What the first label of a host such as `r7--hello.localhost` or `prod--hello.localhost` names, and
/// of which function. It is also the name that a function could have, which then wins.
pub(crate) fn labelled(label: &str) -> Option<(At<'_>, &str)> {
    let (at, function) = label.split_once("--")?;
    let at = match at.strip_prefix('r').and_then(revision_number) {
        Some(revision) => At::Revision(revision),
        None => At::Channel(at),
    };
    is_name(function).then_some((at, function))
}

/// A number as only one text names it: each address of a revision is one.
fn revision_number(text: &str) -> Option<u32> {
    let number = text.parse().ok().filter(|number| *number > 0)?;
    (text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0')).then_some(number)
}

fn by_path(path: &str) -> Option<Route<'_>> {
    let rest = path.strip_prefix(PATH_PREFIX)?;
    let segment = rest.split('/').next().unwrap_or(rest);
    let mount = PATH_PREFIX.len() + segment.len();
    let (function, at) = match segment.split_once('@') {
        None => (segment, At::Default),
        Some((function, at)) => match revision_number(at) {
            Some(revision) => (function, At::Revision(revision)),
            None if is_name(at) => (function, At::Channel(at)),
            None => return None,
        },
    };
    is_name(function).then_some(Route { function, at, mount })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_names_its_function() {
        let route = find("example.com", "/f/hello/a/b", true).unwrap();
        assert_eq!(route, Route { function: "hello", at: At::Default, mount: "/f/hello".len() });
        assert_eq!(find("x", "/f/hello", true).unwrap().mount, "/f/hello".len());
    }

    #[test]
    fn a_host_names_its_function_whatever_the_path() {
        let route = find("hello.localhost", "/f/other/", true).unwrap();
        assert_eq!(route, Route { function: "hello", at: At::Default, mount: 0 });
    }

    #[test]
    fn a_host_counts_only_for_clients_that_may_name_it() {
        let route = find("hello.localhost", "/f/other/", false).unwrap();
        assert_eq!(route, Route { function: "other", at: At::Default, mount: "/f/other".len() });
        assert_eq!(find("hello.localhost", "/", false), None);
        assert!(is_function_host("hello.localhost") && !is_function_host("localhost"));
    }

    #[test]
    fn revisions_and_channels_have_addresses_of_their_own() {
        let route = find("x", "/f/hello@7/a", true).unwrap();
        let mount = "/f/hello@7".len();
        assert_eq!(route, Route { function: "hello", at: At::Revision(7), mount });
        let route = find("x", "/f/hello@prod", true).unwrap();
        let mount = "/f/hello@prod".len();
        assert_eq!(route, Route { function: "hello", at: At::Channel("prod"), mount });
        for wrong in ["hello@", "hello@0", "hello@07", "hello@+7", "hello@X", "hello@7@8", "@7"] {
            assert_eq!(find("x", &format!("/f/{wrong}/"), true), None, "{wrong}");
        }
        assert_eq!(labelled("r7--hello"), Some((At::Revision(7), "hello")));
        assert_eq!(labelled("r7--a--b"), Some((At::Revision(7), "a--b")));
        assert_eq!(labelled("prod--hello"), Some((At::Channel("prod"), "hello")));
        assert_eq!(labelled("r07--hello"), Some((At::Channel("r07"), "hello")));
        for other in ["hello", "r7-hello", "r7--", "r7---a"] {
            assert_eq!(labelled(other), None, "{other}");
        }
    }

    #[test]
    fn other_addresses_name_no_function() {
        for (host, path) in [
            ("localhost", "/"),
            ("a.b.localhost", "/"),
            ("hello.localhost.evil", "/"),
            ("x", "/f/"),
            ("x", "/f//hello"),
            ("x", "/f/Hello"),
            ("x", "/f/%68ello"),
            ("x", "/F/hello"),
        ] {
            assert_eq!(find(host, path, true), None, "{host}{path}");
        }
    }

    proptest! {
        #[test]
        fn a_route_never_panics_and_its_mount_is_part_of_the_path(host in "\\PC{0,30}", path in "/\\PC{0,30}", named: bool) {
            if let Some(route) = find(&host, &path, named) {
                prop_assert!(is_name(route.function));
                prop_assert!(path.is_char_boundary(route.mount));
            }
        }
    }
}
