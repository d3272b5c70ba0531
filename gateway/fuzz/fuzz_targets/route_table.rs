//! A host and a path, as a client sends them: which function they name.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/function_name.rs"]
#[allow(dead_code, reason = "only the check of a name is used here")]
mod function_name;
#[path = "../../src/route_table.rs"]
mod route_table;

fuzz_target!(|data: &[u8]| {
    // The first line is the host, the rest the path.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((host, path)) = text.split_once('\n') else { return };
    let Some(route) = route_table::find(host, path) else { return };
    assert!(function_name::is_name(&route.function));
    let (mount, below) = path.split_at(route.mount);
    assert!(below.is_empty() || below.starts_with('/') || route.mount == 0, "{below}");
    // What names it is what was sent: nothing is decoded and nothing left out.
    if route.mount > 0 {
        assert_eq!(mount, format!("/f/{}", route.function));
    }
});
