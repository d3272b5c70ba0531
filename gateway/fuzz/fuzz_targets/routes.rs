//! The function that a host and a path name.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/functions/name.rs"]
#[allow(dead_code, reason = "only the check of a name is used here")]
mod name;
#[path = "../../src/edge/routes.rs"]
mod routes;

use routes::At;

/// The module in which the product has `name`.
mod functions {
    pub(crate) use crate::name;
}

fuzz_target!(|data: &[u8]| {
    // The first line is the host, the rest the path.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((host, path)) = text.split_once('\n') else { return };
    let found = routes::find(host, path, true);
    let by_host = found.as_ref().is_some_and(|route| route.mount == 0);
    assert_eq!(by_host, routes::is_function_host(host), "{host}");
    let Some(route) = found else { return };
    assert!(name::is_name(&route.function));
    let (mount, below) = path.split_at(route.mount);
    assert!(below.is_empty() || below.starts_with('/') || route.mount == 0, "{below}");
    // The name is in the path as it was sent: nothing is decoded or left out.
    if route.mount > 0 {
        let at = match route.at {
            At::Default => String::new(),
            At::Revision(revision) => format!("@{revision}"),
            At::Channel(channel) => format!("@{channel}"),
        };
        assert_eq!(mount, format!("/f/{}{at}", route.function));
    } else if let Some((at, function)) = routes::labelled(route.function) {
        let before = match at {
            At::Default => panic!("a label names more than a function"),
            At::Revision(revision) => format!("r{revision}"),
            At::Channel(channel) => channel.to_owned(),
        };
        assert!(name::is_name(function));
        assert_eq!(route.function, format!("{before}--{function}"));
    }
});
