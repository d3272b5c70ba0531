//! Finds the function that host and path name.
//!
//! Two routes lead to every function: `/f/{name}/…` on any host, and the host `{name}.localhost`.
//! The second is for clients that may take it (`server.host_routes`), and wins over the first.
//! Both follow from the name, so that a deploy does not change the routes. The catalog knows which
//! revision is active, and swaps it atomically.

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
    /// How many bytes at the start of the path name the function. The function sees the rest.
    pub(crate) mount: usize,
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
    is_name(function).then_some(Route { function, mount: 0 })
}

fn by_path(path: &str) -> Option<Route<'_>> {
    let rest = path.strip_prefix(PATH_PREFIX)?;
    let function = rest.split('/').next().unwrap_or(rest);
    let mount = PATH_PREFIX.len() + function.len();
    is_name(function).then_some(Route { function, mount })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_names_its_function() {
        let route = find("example.com", "/f/hello/a/b", true).unwrap();
        assert_eq!(route, Route { function: "hello", mount: "/f/hello".len() });
        assert_eq!(find("x", "/f/hello", true).unwrap().mount, "/f/hello".len());
    }

    #[test]
    fn a_host_names_its_function_whatever_the_path() {
        let route = find("hello.localhost", "/f/other/", true).unwrap();
        assert_eq!(route, Route { function: "hello", mount: 0 });
    }

    #[test]
    fn a_host_counts_only_for_clients_that_may_name_it() {
        let route = find("hello.localhost", "/f/other/", false).unwrap();
        assert_eq!(route, Route { function: "other", mount: "/f/other".len() });
        assert_eq!(find("hello.localhost", "/", false), None);
        assert!(is_function_host("hello.localhost") && !is_function_host("localhost"));
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
