//! Cookies, which HTTP/2 may bring in several fields.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

/// Joins the fields of cookies to the one that everybody expects (RFC 9113, section 8.2.3). Most
/// requests have at most one.
pub(crate) fn join(headers: &mut HeaderMap) {
    let mut values = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (values.next(), values.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(values) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(value.as_bytes());
    }
    // Valid values with a valid separator between them.
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_fields_become_one() {
        for (fields, joined) in [
            (&["a=1"][..], &["a=1"][..]),
            (&["a=1", "b=2"], &["a=1; b=2"]),
            (&["a=1; b=2", "c=\u{e9}", ""], &["a=1; b=2; c=\u{e9}; "]),
            (&[], &[]),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                let value = HeaderValue::from_bytes(field.as_bytes()).unwrap();
                headers.append(header::COOKIE, value);
            }
            join(&mut headers);
            let found: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
            assert_eq!(found.len(), joined.len());
            assert!(
                found
                    .iter()
                    .zip(joined)
                    .all(|(found, joined)| found.as_bytes() == joined.as_bytes())
            );
        }
    }
}
