//! The data plane: from a request's address to a function, and its answer back.

pub(crate) mod admission;
pub(crate) mod data_plane;
pub(crate) mod panics;
mod problems;
pub(crate) mod rejections;
pub(crate) mod response_body;
pub(crate) mod routes;
pub(crate) mod server_timing;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use runtime_pool::{CdnLoop, InvocationContext, RequestBody};
use store::Tenant;
use subtle::ConstantTimeEq as _;

use crate::{
    config::{MinRate, ServerSection, TrustedProxies},
    edge::{rejections::Rejections, response_body::EdgeBody, server_timing::SERVER_TIMING},
    functions::catalog::{Catalog, CatalogEntry},
    invoker::Invoker,
    problem::{OUTCOME, Problem, REQUEST_ID},
    request::{
        forwarded::{self, OWN_PREFIX, Origin},
        limited_body::{self, BodyFaults, LimitedBody},
        validate,
    },
    server::IncomingBody,
    telemetry::request_id::id_header,
};

/// Marks an answer as the function's own, whatever its status.
const FUNCTION_OUTCOME: HeaderValue = HeaderValue::from_static("function");
/// With this header a request shows that it may see how answers come about.
const TIMING_SECRET: &str = "mayfly-server-timing";

/// Serves one listener's requests to functions.
pub(crate) struct Edge {
    catalog: Arc<Catalog>,
    /// The tenant whose functions are called here.
    tenant: Tenant,
    invoker: Invoker,
    refusals: Arc<Rejections>,
    uri_bytes: usize,
    hops: usize,
    pace: MinRate,
    proxies: TrustedProxies,
    no_mount: Arc<str>,
    timing_secret: String,
}

impl Edge {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        invoker: Invoker,
        refusals: Arc<Rejections>,
        config: &ServerSection,
    ) -> Self {
        Self {
            catalog,
            tenant: Tenant::default(),
            invoker,
            refusals,
            uri_bytes: config.listener.http.uri_bytes,
            hops: config.edge.hops,
            pace: config.min_rate,
            proxies: config.proxies.trusted.clone(),
            no_mount: "".into(),
            timing_secret: config.edge.timing_secret.clone(),
        }
    }

    /// Answers one request that came from `origin`.
    pub(crate) async fn answer(
        &self,
        request: Request<IncomingBody>,
        origin: &Origin,
        invocation: u128,
    ) -> Response<EdgeBody> {
        match self.serve(request, origin, invocation).await {
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
        request: Request<IncomingBody>,
        origin: &Origin,
        invocation: u128,
    ) -> Result<Response<EdgeBody>, Problem> {
        let (mut parts, body) = request.into_parts();
        validate::check(&mut parts, self.uri_bytes)?;
        let trail = CdnLoop::of(&parts.headers);
        if trail.as_ref().is_some_and(|trail| trail.hops() >= self.hops) {
            return Err(Problem::loop_detected(self.hops));
        }
        let (target, mount) = {
            let host = validate::host(&parts.uri, &parts.headers)?;
            let route = routes::find(&host.name, parts.uri.path()).ok_or_else(Problem::no_route)?;
            let target = self
                .catalog
                .get(&self.tenant, route.function)
                .ok_or_else(|| Problem::function_not_found(route.function))?;
            (target, route.mount)
        };
        // Not `||`: asking also takes the secret away, so that the guest never sees it.
        let timing = target.timing | self.asks_for_timing(&mut parts.headers);
        let peer = origin.tell(&mut parts.headers, &self.proxies);
        parts.uri = below(&parts.uri, mount).ok_or_else(Problem::bad_target)?;
        let (body, troubles) = self.admit(body, &parts.headers, &target)?;
        let mount = if mount == 0 { Arc::clone(&self.no_mount) } else { Arc::clone(&target.mount) };
        let caller = InvocationContext { invocation, peer, mount, trail };
        let request = Request::from_parts(parts, body);
        let answer = self.invoker.invoke(&target, request, caller).await;
        // What a function makes of half a body is no answer to whoever sent it.
        if let Some(trouble) = troubles.and_then(|troubles| troubles.first()) {
            return Err(trouble.into());
        }
        let (response, start) = answer?;
        let (mut parts, body) = response.into_parts();
        // A guest cannot speak for the gateway.
        forwarded::remove(&mut parts.headers, |name| name.as_str().starts_with(OWN_PREFIX));
        if timing {
            parts.headers.append(SERVER_TIMING, server_timing::value(&start));
        }
        parts.headers.insert(OUTCOME, FUNCTION_OUTCOME);
        parts.headers.insert(REQUEST_ID, id_header(invocation));
        Ok(Response::from_parts(parts, body.into()))
    }

    /// The body as the guest will read it, and what will tell if something is wrong with it. One
    /// that says it is too long is not even begun.
    fn admit(
        &self,
        body: IncomingBody,
        headers: &HeaderMap,
        target: &CatalogEntry,
    ) -> Result<(RequestBody, Option<BodyFaults>), Problem> {
        if body.is_end_stream() {
            return Ok((RequestBody::Empty, None));
        }
        let max = target.request_bytes;
        let declared = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|declared| declared > max) {
            return Err(limited_body::too_large(max));
        }
        let troubles = BodyFaults::default();
        let body = LimitedBody::new(body, max, self.pace, troubles.clone());
        Ok((RequestBody::Stream(body.boxed_unsync()), Some(troubles)))
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
}
