//! A host and a path, as a client sends them: which function they name.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/functions/name.rs"]
#[allow(dead_code, reason = "only the check of a name is used here")]
mod name;
#[path = "../../src/edge/routes.rs"]
mod routes;

/// Where the files of the product find each other.
mod functions {
    pub(crate) use crate::name;
}

fuzz_target!(|data: &[u8]| {
    // The first line is the host, the rest the path.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((host, path)) = text.split_once('\n') else { return };
    let Some(route) = routes::find(host, path) else { return };
    assert!(name::is_name(&route.function));
    let (mount, below) = path.split_at(route.mount);
    assert!(below.is_empty() || below.starts_with('/') || route.mount == 0, "{below}");
    // What names it is what was sent: nothing is decoded and nothing left out.
    if route.mount > 0 {
        assert_eq!(mount, format!("/f/{}", route.function));
    }
});
