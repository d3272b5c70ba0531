//! What HTTP/2 must not bring to functions any more than HTTP/1, whose bytes `server/h1/framing`
//! checks.

use http::{HeaderMap, header};

use crate::server::RequestRejection;

/// Checks the fields of an HTTP/2 request. Its library has checked their names and their bytes.
pub(super) fn check(headers: &HeaderMap) -> Result<(), RequestRejection> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let mut values = headers.values().map(http::HeaderValue::as_bytes);
    if values.any(|value| blank(value.first()) || blank(value.last())) {
        return Err(RequestRejection::Malformed(
            "the value of a header field begins or ends with a blank",
        ));
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    if lengths.next().is_some() {
        return Err(RequestRejection::Malformed("the request has more than one content-length"));
    }
    if length.is_empty() || !length.as_bytes().iter().all(u8::is_ascii_digit) {
        return Err(RequestRejection::Malformed("content-length is not one plain number"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn fields_are_as_strict_as_those_of_http_1() {
        let checked = |fields: &[(&'static str, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, value);
            }
            check(&headers).is_ok()
        };
        assert!(checked(&[("a", "b c\td"), ("a", ""), ("content-length", "03")]));
        for value in [" b", "b ", "\tb", "b\t", " "] {
            assert!(!checked(&[("a", "b"), ("a", value)]), "{value:?}");
        }
        for length in ["", "+3", "-3", "0x3", "3,3", "3.0", "\"3\""] {
            assert!(!checked(&[("content-length", length)]), "{length:?}");
        }
        assert!(!checked(&[("content-length", "3"), ("content-length", "3")]));
    }
}
