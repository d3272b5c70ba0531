//! The data plane: from a request's address to a function, and its answer back.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use runtime_pool::{Caller, RequestBody, Trail};
use subtle::ConstantTimeEq as _;

use crate::{
    body::{BoundedBody, EdgeBody},
    catalog::{Active, Catalog},
    config::ServerSection,
    invoker::Invoker,
    problem::{OUTCOME, Problem, REQUEST_ID},
    refusals::{Refusals, id_header},
    route_table,
    server_timing::{self, SERVER_TIMING},
};

/// Marks an answer as the function's own, whatever its status.
const FUNCTION_OUTCOME: HeaderValue = HeaderValue::from_static("function");
/// With this header a request shows that it may see how answers come about.
const TIMING_SECRET: &str = "mayfly-server-timing";
/// Headers that only the gateway may set.
const OWN_PREFIX: &str = "mayfly-";

/// Serves one listener's requests to functions.
pub(crate) struct Edge {
    catalog: Arc<Catalog>,
    invoker: Invoker,
    refusals: Arc<Refusals>,
    uri_bytes: usize,
    hops: usize,
    no_mount: Arc<str>,
    timing_secret: String,
}

impl Edge {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        invoker: Invoker,
        refusals: Arc<Refusals>,
        config: &ServerSection,
    ) -> Self {
        Self {
            catalog,
            invoker,
            refusals,
            uri_bytes: config.uri_bytes,
            hops: config.hops,
            no_mount: "".into(),
            timing_secret: config.timing_secret.clone(),
        }
    }

    /// Answers one request of the client at `peer`.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        invocation: u128,
    ) -> Response<EdgeBody> {
        match self.serve(request, peer, invocation).await {
            Ok(response) => response,
            Err(problem) => self.refusals.answer(problem, invocation),
        }
    }

    /// Whether a request shows that it may see how answers come about. The guest does not see it.
    fn asks_for_timing(&self, headers: &mut HeaderMap) -> bool {
        let Some(shown) = headers.remove(TIMING_SECRET) else { return false };
        !self.timing_secret.is_empty()
            && bool::from(shown.as_bytes().ct_eq(self.timing_secret.as_bytes()))
    }

    async fn serve(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        invocation: u128,
    ) -> Result<Response<EdgeBody>, Problem> {
        let (mut parts, body) = request.into_parts();
        if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > self.uri_bytes) {
            return Err(Problem::target_too_long(self.uri_bytes));
        }
        let trail = Trail::of(&parts.headers);
        if trail.as_ref().is_some_and(|trail| trail.hops() >= self.hops) {
            return Err(Problem::loop_detected(self.hops));
        }
        let host = host(&parts.uri, &parts.headers)?;
        let (target, mount) = {
            let route = route_table::find(host, parts.uri.path()).ok_or_else(Problem::no_route)?;
            let target = self
                .catalog
                .get(&route.function)
                .ok_or_else(|| Problem::function_not_found(&route.function))?;
            (target, route.mount)
        };
        // Not `||`: asking also takes the secret away, so that the guest never sees it.
        let timing = target.timing | self.asks_for_timing(&mut parts.headers);
        parts.uri = below(&parts.uri, mount).ok_or_else(Problem::bad_target)?;
        let body = admit(body, &parts.headers, &target)?;
        let mount = if mount == 0 { Arc::clone(&self.no_mount) } else { Arc::clone(&target.mount) };
        let caller = Caller { invocation, peer, mount, trail };
        let request = Request::from_parts(parts, body);
        let (response, start) = self.invoker.invoke(&target, request, caller).await?;
        let (mut parts, body) = response.into_parts();
        remove_own(&mut parts.headers);
        if timing {
            parts.headers.append(SERVER_TIMING, server_timing::value(&start));
        }
        parts.headers.insert(OUTCOME, FUNCTION_OUTCOME);
        parts.headers.insert(REQUEST_ID, id_header(invocation));
        Ok(Response::from_parts(parts, body.into()))
    }
}

/// The one host that a request names.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Problem> {
    let mut values = headers.get_all(header::HOST).iter();
    let named = match (values.next(), values.next()) {
        (Some(value), None) => Some(value.to_str().map_err(|_| Problem::bad_host())?),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(Problem::bad_host()),
    };
    match (uri.authority().map(http::uri::Authority::as_str), named) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(Problem::bad_host())
        }
        (Some(host), _) | (None, Some(host)) if !host.is_empty() => Ok(host),
        _ => Err(Problem::bad_host()),
    }
}

/// The address as the function sees it: without the part that led to it.
fn below(uri: &Uri, mount: usize) -> Option<Uri> {
    if mount == 0 {
        return Some(uri.clone());
    }
    let rest = &uri.path_and_query()?.as_str()[mount..];
    let rest = match rest {
        "" | "/" => PathAndQuery::from_static("/"),
        rest if rest.starts_with('/') => PathAndQuery::try_from(rest).ok()?,
        // `/f/hello?x` is the function's root with a query.
        rest => PathAndQuery::try_from(format!("/{rest}")).ok()?,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(rest);
    Uri::from_parts(parts).ok()
}

/// The body as the guest will read it. One that says it is too long is not even begun.
fn admit(body: Incoming, headers: &HeaderMap, target: &Active) -> Result<RequestBody, Problem> {
    if body.is_end_stream() {
        return Ok(RequestBody::Empty);
    }
    let max = target.request_bytes;
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > max) {
        return Err(Problem::request_too_large(max));
    }
    Ok(RequestBody::Stream(BoundedBody::new(body, max).boxed_unsync()))
}

/// A guest cannot speak for the gateway.
fn remove_own(headers: &mut HeaderMap) {
    if headers.keys().any(|name| name.as_str().starts_with(OWN_PREFIX)) {
        let own: Vec<HeaderName> =
            headers.keys().filter(|name| name.as_str().starts_with(OWN_PREFIX)).cloned().collect();
        for name in own {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_sees_the_path_below_its_mount() {
        for (uri, mount, expected) in [
            ("/f/hello", 8, "/"),
            ("/f/hello/", 8, "/"),
            ("/f/hello/a/b?c=d", 8, "/a/b?c=d"),
            ("/f/hello?c=d", 8, "/?c=d"),
            ("/f/other", 0, "/f/other"),
            ("http://x:1/f/hello/a", 8, "http://x:1/a"),
        ] {
            assert_eq!(below(&uri.parse().unwrap(), mount).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_request_must_name_one_host() {
        let one = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("a"))]);
        assert_eq!(host(&Uri::from_static("/"), &one).unwrap(), "a");
        assert_eq!(host(&Uri::from_static("http://A/"), &one).unwrap(), "A");
        assert!(host(&Uri::from_static("http://b/"), &one).is_err());
        assert!(host(&Uri::from_static("/"), &HeaderMap::new()).is_err());
        let mut two = one;
        two.append(header::HOST, HeaderValue::from_static("a"));
        assert!(host(&Uri::from_static("/"), &two).is_err());
    }

    #[test]
    fn headers_that_only_the_gateway_may_set_are_removed() {
        let mut headers = HeaderMap::new();
        headers.insert("mayfly-outcome", HeaderValue::from_static("platform"));
        headers.insert("x-a", HeaderValue::from_static("b"));
        remove_own(&mut headers);
        assert_eq!(headers.len(), 1);
    }
}
