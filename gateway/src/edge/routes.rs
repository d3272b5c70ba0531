//! Finds the function that host and path name.
//!
//! Two routes lead to every function: `/f/{name}/…` on any host, and the host `{name}.localhost`.
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
/// canonical form.
pub(crate) fn find<'a>(host: &'a str, path: &'a str) -> Option<Route<'a>> {
    by_host(host).or_else(|| by_path(path))
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
        let route = find("example.com", "/f/hello/a/b").unwrap();
        assert_eq!(route, Route { function: "hello", mount: "/f/hello".len() });
        assert_eq!(find("x", "/f/hello").unwrap().mount, "/f/hello".len());
    }

    #[test]
    fn a_host_names_its_function_whatever_the_path() {
        let route = find("hello.localhost", "/f/other/").unwrap();
        assert_eq!(route, Route { function: "hello", mount: 0 });
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
            assert_eq!(find(host, path), None, "{host}{path}");
        }
    }

    proptest! {
        #[test]
        fn a_route_never_panics_and_its_mount_is_part_of_the_path(host in "\\PC{0,30}", path in "/\\PC{0,30}") {
            if let Some(route) = find(&host, &path) {
                prop_assert!(is_name(route.function));
                prop_assert!(path.is_char_boundary(route.mount));
            }
        }
    }
}
