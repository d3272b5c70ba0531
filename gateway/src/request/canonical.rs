//! The canonical form of hosts and paths. Routing, permissions, logs and functions all use it, so
//! that no two of them can understand a request differently.
//!
//! This module has no I/O, so that tests and the fuzzer can pass it any text.

use std::{borrow::Cow, net::Ipv6Addr};

/// Characters of the longest host.
const HOST_CHARS: usize = 255;

/// The host and the port of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalHost<'a> {
    /// In lower case, without a dot at the end.
    pub name: Cow<'a, str>,
    /// Digits, or empty.
    pub port: &'a str,
}

/// Reads `host` or `host:port`.
///
/// # Errors
/// The reason why it has no canonical form.
pub fn canonical_host(authority: &str) -> Result<CanonicalHost<'_>, &'static str> {
    let (name, port) = if authority.starts_with('[') {
        let end = authority.find(']').ok_or("the address in brackets has no closing bracket")?;
        if authority[1..end].parse::<Ipv6Addr>().is_err() {
            return Err("the address in brackets is not an IPv6 address");
        }
        authority.split_at(end + 1)
    } else {
        let name = &authority[..authority.find(':').unwrap_or(authority.len())];
        (name, &authority[name.len()..])
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.is_empty() || digits.parse::<u16>().is_ok() => digits,
        None if port.is_empty() => port,
        Some(_) | None => return Err("the port is not a number"),
    };
    if port.starts_with('+') {
        return Err("the port is not a number");
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    let is_named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.starts_with('[') && (!bare.bytes().all(is_named) || bare.split('.').any(str::is_empty))
    {
        return Err("the host is neither a name nor an address");
    }
    if bare.len() > HOST_CHARS {
        return Err("the host is too long");
    }
    // Nearly all clients send the canonical form.
    let name = if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(bare.to_ascii_lowercase())
    } else {
        Cow::Borrowed(bare)
    };
    Ok(CanonicalHost { name, port })
}

/// A path and a query in ASCII, with other bytes percent-encoded, if there are any.
pub fn encoded_target(target: &str) -> Option<String> {
    if target.is_ascii() {
        return None;
    }
    let mut encoded = String::with_capacity(3 * target.len());
    for byte in target.bytes() {
        if byte.is_ascii() {
            encoded.push(char::from(byte));
        } else {
            let digit = |value: u8| char::from(b"0123456789ABCDEF"[usize::from(value)]);
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    Some(encoded)
}

/// The canonical form of a path (RFC 3986, section 6.2.2): characters that need no encoding are
/// decoded, other encodings are in capitals, and dot segments are resolved. Encoded slashes and
/// empty segments stay, because they mean something to some functions.
///
/// # Errors
/// The reason why it has no canonical form.
pub fn canonical_path(path: &str) -> Result<Cow<'_, str>, &'static str> {
    if !path.starts_with('/') {
        return Err("the path does not begin with a slash");
    }
    if is_canonical(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = normalize_encoding(path)?;
    resolve_dot_segments(&decoded).map(Cow::Owned)
}

/// Whether a path is canonical, as nearly every path is. A few canonical paths count as others.
fn is_canonical(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let canonical = !matches!(byte, b'%' | b'\\') && (before, byte) != (b'/', b'.');
        before = byte;
        canonical
    })
}

/// Decodes characters that need no encoding, and puts other encodings into capitals.
fn normalize_encoding(path: &str) -> Result<String, &'static str> {
    let mut normalized = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        normalized.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('\\') {
            return Err("the path has a backslash");
        }
        let digits = rest.get(1..3).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or("a percent sign in the path is not followed by two hexadecimal digits")?;
        match byte {
            0 => return Err("the path has a zero byte"),
            b'-' | b'.' | b'_' | b'~' => normalized.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => normalized.push(char::from(byte)),
            _ => normalized.push_str(&rest[..3].to_ascii_uppercase()),
        }
        rest = &rest[3..];
    }
    normalized.push_str(rest);
    Ok(normalized)
}

fn resolve_dot_segments(path: &str) -> Result<String, &'static str> {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_with_slash = false;
    for segment in path[1..].split('/') {
        ends_with_slash = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." if segments.pop().is_none() => return Err("the path leads above its root"),
            ".." => {}
            segment => segments.push(segment),
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in segments {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if ends_with_slash || resolved.is_empty() {
        resolved.push('/');
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Case H16.
    #[test]
    fn a_path_has_one_form() {
        for (path, canonical) in [
            ("/", "/"),
            ("/f/hello", "/f/hello"),
            ("/f/%68ello/%7Ea", "/f/hello/~a"),
            ("/f/hello/a%2fb%2Fc", "/f/hello/a%2Fb%2Fc"),
            ("/f/hello//a", "/f/hello//a"),
            ("/f/other/../hello/./a", "/f/hello/a"),
            ("/f/other/%2e%2E/hello", "/f/hello"),
            ("/f/hello/..", "/f/"),
            ("/f/hello/.", "/f/hello/"),
            ("/f/hello;v=1/..;/a", "/f/hello;v=1/..;/a"),
            ("/f/hello/%252e%252e/a", "/f/hello/%252e%252e/a"),
            ("/f/.hidden/...", "/f/.hidden/..."),
            ("/..;/a", "/..;/a"),
            ("//a", "//a"),
            ("/a/..", "/"),
        ] {
            assert_eq!(canonical_path(path).as_deref(), Ok(canonical), "{path}");
        }
        for path in ["", "a", "*", "/..", "/a/../..", "/%", "/%4", "/%zz", "/%00", "/a\\b", "/%+1"]
        {
            assert!(canonical_path(path).is_err(), "{path}");
        }
    }

    /// Case H16.
    #[test]
    fn a_host_has_one_form() {
        for (authority, name, port) in [
            ("Hello.LocalHost", "hello.localhost", ""),
            ("hello.localhost.:8080", "hello.localhost", "8080"),
            ("a:", "a", ""),
            ("127.0.0.1:1", "127.0.0.1", "1"),
            ("[::1]:65535", "[::1]", "65535"),
            ("[2001:DB8::1]", "[2001:db8::1]", ""),
        ] {
            assert_eq!(
                canonical_host(authority),
                Ok(CanonicalHost { name: name.into(), port }),
                "{authority}"
            );
        }
        for authority in [
            "", ".", "..", ".a", "a..b", "a b", "a,b", "a/b", "a@b", "a:b", "a:+1", "a:65536",
            "a:1:2", "::1", "[::1", "[x]", "[::1]a", "a%2eb", "é", "a#", "a?", "a\t",
        ] {
            assert!(canonical_host(authority).is_err(), "{authority:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Case H16.
        /// The pieces are meaningful, so that many paths resolve to others.
        #[test]
        fn a_canonical_path_is_its_own_canonical_form(
            pieces in proptest::collection::vec(
                "/|\\.|\\.\\.|a|A|%2e|%2F|%61|%25|%5c|;|//|%zz|\\\\|~|é|:|hello", 0..12
            ),
        ) {
            let path = format!("/{}", pieces.concat());
            if let Ok(canonical) = canonical_path(&path) {
                prop_assert!(canonical.starts_with('/'));
                prop_assert!(!canonical.split('/').any(|segment| matches!(segment, "." | "..")));
                let again = canonical_path(&canonical);
                prop_assert_eq!(again.as_deref(), Ok(&*canonical));
            }
        }

        /// Case H16.
        #[test]
        fn no_text_makes_it_panic(path in "\\PC{0,40}", host in "\\PC{0,40}") {
            let _ = canonical_path(&path);
            if let Ok(host) = canonical_host(&host) {
                prop_assert!(!host.name.bytes().any(|byte| byte.is_ascii_uppercase()));
            }
        }
    }
}
