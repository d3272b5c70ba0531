//! Trailers: HTTP/2 has them always, HTTP/1.1 for clients that ask, and HTTP/1.0 never.

use http::{HeaderMap, Version, header, request, response};

/// Which trailers the client of a request can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trailers {
    Never,
    /// In a chunked response, and only those that the head names.
    Chunked,
    Always,
}

impl Trailers {
    pub(super) fn of(request: &request::Parts) -> Self {
        match request.version {
            Version::HTTP_2 | Version::HTTP_3 => Self::Always,
            Version::HTTP_11 if accepts(&request.headers) => Self::Chunked,
            _ => Self::Never,
        }
    }

    /// Makes the head of a response say what follows its body.
    pub(super) fn announce(self, head: &mut response::Parts) {
        if !head.headers.contains_key(header::TRAILER) {
            return;
        }
        match self {
            Self::Never => drop(head.headers.remove(header::TRAILER)),
            Self::Chunked => drop(head.headers.remove(header::CONTENT_LENGTH)),
            Self::Always => {}
        }
    }
}

/// Whether the client has said `te: trailers`.
fn accepts(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(','));
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    #[test]
    fn a_client_reads_the_trailers_that_its_version_and_te_allow() {
        for (version, te, expected) in [
            (Version::HTTP_10, "trailers", Trailers::Never),
            (Version::HTTP_11, "", Trailers::Never),
            (Version::HTTP_11, "gzip", Trailers::Never),
            (Version::HTTP_11, "gzip;q=0.5,  Trailers", Trailers::Chunked),
            (Version::HTTP_2, "", Trailers::Always),
        ] {
            let mut request = Request::new(()).into_parts().0;
            request.version = version;
            request.headers.insert(header::TE, HeaderValue::from_static(te));
            assert_eq!(Trailers::of(&request), expected, "{version:?} {te}");
        }
    }
}
