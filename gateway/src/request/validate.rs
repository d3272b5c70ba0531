//! Checks every request before it is routed, on both planes and in all versions of HTTP.
//! `server/h1/framing` checks the bytes of HTTP/1.

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderValue, Method, Uri, Version, header,
    request::Parts,
    uri::{PathAndQuery, Scheme},
};

use crate::{
    problem::{Problem, operator_setting, table},
    request::{
        canonical::{CanonicalHost, canonical_host, canonical_path, encoded_target},
        strict,
    },
    server::RequestRejection,
};

/// The host that a client of HTTP/1.0 means that names none: such as a load balancer's check.
const UNNAMED_HOST: HeaderValue = HeaderValue::from_static("localhost");
const HEAD_SETTINGS: &str = "Send less. The operator can raise the setting `server.header_bytes`, and \
                             `server.http2_header_bytes` for HTTP/2.";

/// Checks a request, and replaces its path by the canonical form.
pub(crate) fn check(parts: &mut Parts, target_bytes: usize) -> Result<(), Problem> {
    if let Some(rejection) = parts.extensions.get::<RequestRejection>() {
        return Err((*rejection).into());
    }
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(RequestRejection::Method.into());
    }
    if parts.version == Version::HTTP_2 {
        strict::check(&parts.headers)?;
    }
    let scheme = parts.uri.scheme();
    if scheme.is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(Problem::bad_target().detail("the scheme is neither http nor https"));
    }
    if parts.version == Version::HTTP_10
        && parts.uri.authority().is_none()
        && !parts.headers.contains_key(header::HOST)
    {
        parts.headers.insert(header::HOST, UNNAMED_HOST);
    }
    let target = parts.uri.path_and_query().ok_or_else(Problem::bad_target)?;
    if target.as_str().len() > target_bytes {
        return Err(RequestRejection::TargetBytes(target_bytes).into());
    }
    expectation(&parts.headers)?;
    // Only of OPTIONS it is valid (RFC 9112, section 3.2.4).
    if target.as_str() == "*" && parts.method == Method::OPTIONS {
        return Ok(());
    }
    // HTTP/1 never brings such bytes here, because `server/h1/framing` encodes them.
    if let Some(encoded) = encoded_target(target.as_str()) {
        parts.uri = with_target(&parts.uri, encoded).ok_or_else(Problem::bad_target)?;
    }
    let path =
        canonical_path(parts.uri.path()).map_err(|wrong| Problem::bad_target().detail(wrong))?;
    if let Cow::Owned(path) = path {
        parts.uri = with_path(&parts.uri, path).ok_or_else(Problem::bad_target)?;
    }
    Ok(())
}

/// The host of a request, which it must name exactly once.
pub(crate) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<CanonicalHost<'a>, Problem> {
    let mut values = headers.get_all(header::HOST).iter();
    let named = match (values.next(), values.next()) {
        (Some(value), None) => Some(value.to_str().map_err(|_| "the host is not ASCII")),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(bad_host("the request names more than one host")),
    };
    let named = named.transpose().and_then(|named| named.map(canonical_host).transpose());
    let named = named.map_err(bad_host)?;
    let Some(authority) = uri.authority() else {
        return named.ok_or_else(|| bad_host("the request names no host"));
    };
    let authority = canonical_host(authority.as_str()).map_err(bad_host)?;
    if named.is_some_and(|named| named != authority) {
        return Err(bad_host("the target and the header `host` name different hosts"));
    }
    Ok(authority)
}

/// `server/` meets the only expectation that there is, `100-continue`.
fn expectation(headers: &HeaderMap) -> Result<(), Problem> {
    let mut expected = headers.get_all(header::EXPECT).iter();
    if expected.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        Ok(())
    } else {
        Err(Problem::new(&table::EXPECTATION_FAILED)
            .detail("the gateway only supports `100-continue`")
            .hint("Leave out the header `expect`."))
    }
}

fn bad_host(detail: &str) -> Problem {
    Problem::new(&table::BAD_HOST)
        .detail(detail)
        .hint("Name exactly one host, the same one in the target and in the header `host`.")
        .closes()
}

impl From<RequestRejection> for Problem {
    fn from(rejection: RequestRejection) -> Self {
        let problem = match rejection {
            RequestRejection::Malformed(detail) => {
                Self::new(&table::MALFORMED_REQUEST).detail(detail)
            }
            RequestRejection::Version => Self::new(&table::VERSION_NOT_SUPPORTED)
                .hint("Use HTTP/1.1 or HTTP/2. HTTP/1.0 is supported, too."),
            RequestRejection::Method => Self::new(&table::METHOD_NOT_SUPPORTED)
                .detail("the gateway does not support CONNECT and TRACE"),
            RequestRejection::Fields(max) => Self::new(&table::TOO_MANY_HEADERS)
                .detail(format!("the limit is {max} header fields"))
                .hint(operator_setting("server.headers")),
            RequestRejection::HeadBytes(max) => Self::new(&table::HEAD_TOO_LARGE)
                .detail(format!("the limit is {max} bytes"))
                .hint(HEAD_SETTINGS),
            RequestRejection::TargetBytes(max) => Self::new(&table::TARGET_TOO_LONG)
                .detail(format!("the limit is {max} bytes"))
                .hint(operator_setting("server.uri_bytes")),
        };
        problem.closes()
    }
}

fn with_path(uri: &Uri, mut path: String) -> Option<Uri> {
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    with_target(uri, path)
}

fn with_target(uri: &Uri, target: String) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    fn checked(uri: &str) -> Result<String, Problem> {
        let mut parts = Request::get(uri).body(()).unwrap().into_parts().0;
        check(&mut parts, 100).map(|()| parts.uri.to_string())
    }

    #[test]
    fn the_path_becomes_canonical_and_the_rest_stays() {
        assert_eq!(checked("/a/../b?c=../d").unwrap(), "/b?c=../d");
        assert_eq!(checked("http://x:1/%61/?").unwrap(), "http://x:1/a/?");
        assert_eq!(checked("/a%2fb").unwrap(), "/a%2Fb");
        assert_eq!(checked("/%zz").unwrap_err().slug(), "bad-target");
        assert_eq!(checked(&format!("/{:a<100}", "")).unwrap_err().slug(), "target-too-long");
        assert_eq!(checked("*").unwrap_err().slug(), "bad-target");
        assert_eq!(checked("ftp://x/").unwrap_err().slug(), "bad-target");
        assert_eq!(checked("/\u{e9}?\u{e9}").unwrap(), "/%C3%A9?%C3%A9");
    }

    #[test]
    fn a_client_of_http_1_0_need_not_name_a_host_and_others_must() {
        for (version, named) in
            [(Version::HTTP_10, true), (Version::HTTP_11, false), (Version::HTTP_2, false)]
        {
            let mut parts = Request::get("/").version(version).body(()).unwrap().into_parts().0;
            check(&mut parts, 100).unwrap();
            assert_eq!(host(&parts.uri, &parts.headers).is_ok(), named, "{version:?}");
        }
        let named = Request::get("/").version(Version::HTTP_10).header("host", "a").body(());
        let mut parts = named.unwrap().into_parts().0;
        check(&mut parts, 100).unwrap();
        assert_eq!(parts.headers["host"], "a");
    }

    #[test]
    fn a_request_must_name_one_host() {
        let name = |uri: &'static str, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            host(&Uri::from_static(uri), &headers).map(|host| host.name.into_owned()).ok()
        };
        assert_eq!(name("/", &["A:81"]).as_deref(), Some("a"));
        assert_eq!(name("http://A.:81/", &["a:81"]).as_deref(), Some("a"));
        assert_eq!(name("http://A/", &[]).as_deref(), Some("a"));
        assert_eq!(name("http://b/", &["a"]), None);
        assert_eq!(name("http://a:1/", &["a:2"]), None);
        assert_eq!(name("/", &[]), None);
        assert_eq!(name("/", &["a", "a"]), None);
        assert_eq!(name("/", &["a b"]), None);
    }
}
