//! The canonical form of the host and the path of a request.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/request/canonical.rs"]
mod canonical;

use canonical::{canonical_host, canonical_path, encoded_target};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let encoded = encoded_target(text);
    assert!(encoded.as_deref().unwrap_or(text).is_ascii());
    if let Ok(path) = canonical_path(text) {
        assert!(path.starts_with('/') && !path.contains('\\'));
        assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")));
        assert_eq!(canonical_path(&path).as_deref(), Ok(&*path), "there is only one form");
    }
    if let Ok(host) = canonical_host(text) {
        assert!(!host.name.is_empty() && !host.name.ends_with('.'));
        assert!(!host.name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' '));
        assert!(host.port.bytes().all(|byte| byte.is_ascii_digit()));
        let again = canonical_host(&host.name).map(|again| again.name);
        assert_eq!(again.as_deref(), Ok(&*host.name), "there is only one form");
    }
});
