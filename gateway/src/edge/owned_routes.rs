//! Applies the routes of owners.

mod route_problems;
pub(super) mod signed_body;

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, header, request::Parts, uri::Uri,
};
use store::Tenant;

use self::route_problems::refused;
use crate::{
    edge::response_body::EdgeBody,
    functions::routes::{
        Routes,
        auth::{RouteAuth, SignedBody},
        cors::Cors,
        rate::{RateCallers, TooMany},
        route::{Asked, LocationPart, Route, RouteAction},
        table::Matched,
    },
    problem::{OUTCOME, Problem, table},
    request::{idempotency_key::IDEMPOTENCY_KEY, server_options::PLATFORM_OUTCOME},
};

/// Tells the function which route has led to it.
const ROUTE: &str = "mayfly-route";
// draft-ietf-httpapi-ratelimit-headers-10.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The parts of a request that routes depend on.
pub(super) fn asked(head: &Parts) -> Asked<'_> {
    Asked { path: head.uri.path(), method: &head.method, headers: &head.headers }
}

/// The response to a preflight request of a browser. These have no credentials.
pub(super) fn preflight(route: &Route, head: &Parts) -> Option<Response<EdgeBody>> {
    let cors = route.cors.as_ref()?;
    if !Cors::is_preflight(&head.method, &head.headers) {
        return None;
    }
    let mut response = respond(http::StatusCode::NO_CONTENT, Default::default());
    cors.answer_preflight(head.headers.get(header::ORIGIN), response.headers_mut());
    Some(response)
}

/// Who has sent a request that is to be made only once.
#[derive(Clone, Debug)]
pub(super) struct RouteCaller {
    /// How it was recognised.
    pub(super) method: &'static str,
    /// Its name within that.
    pub(super) name: HeaderValue,
}

/// The routes of owners, and whom they let through.
pub(crate) struct RouteGate {
    routes: Routes,
    callers: RateCallers,
    auth: RouteAuth,
}

impl RouteGate {
    pub(crate) fn new(routes: Routes, auth: RouteAuth) -> Self {
        Self { routes, callers: RateCallers::new(), auth }
    }

    /// The routes as they are now.
    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Lets a request through whose caller the route knows, if it asks, and that is not one too many.
    /// What does not get through has spent no slot. Returns what the body must be, if the request is
    /// signed.
    pub(super) async fn admit(
        &self,
        route: &Route,
        tenant: &Tenant,
        client: IpAddr,
        head: &mut Parts,
    ) -> Result<Option<SignedBody>, Problem> {
        let (early, late) = match &route.rate {
            Some(rate) if rate.is_by_key() => (None, Some(rate)),
            rate => (rate.as_ref(), None),
        };
        // Before the credentials, where it can be, so that a caller cannot try one after the other.
        if let Some(rate) = early {
            let counted = self.callers.count(&route.name, rate, client, &head.headers, None).await;
            counted.map_err(|too_many| rate_limited(&route.name, too_many))?;
        }
        let Some(rules) = &route.auth else { return Ok(None) };
        let function = match &route.action {
            RouteAction::Call { function, .. } => Some(function.as_str()),
            RouteAction::Flow { .. }
            | RouteAction::Redirect { .. }
            | RouteAction::Answer { .. } => None,
        };
        let known = self.auth.authenticate(rules, (tenant, function), client, head).await;
        let caller = known.map_err(|why| refused(&route.name, rules, why))?;
        if let Some(rate) = late {
            let who = Some(caller.identity());
            let counted = self.callers.count(&route.name, rate, client, &head.headers, who).await;
            counted.map_err(|too_many| rate_limited(&route.name, too_many))?;
        }
        caller.tell(&mut head.headers);
        if head.headers.contains_key(IDEMPOTENCY_KEY) {
            let (method, name) = caller.identity();
            head.extensions.insert(RouteCaller { method, name: name.clone() });
        }
        Ok(caller.body)
    }
}

fn rate_limited(route: &HeaderValue, too_many: TooMany) -> Problem {
    let name = route.to_str().unwrap_or_default();
    let wait = u32::try_from(too_many.wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    let left = HeaderValue::try_from(format!("\"route\";r=0;t={wait}"));
    let problem = Problem::new(&table::RATE_LIMITED)
        .detail(format!("the route {name:?} takes no more requests of this caller at the moment"))
        .hint(format!("Wait before the next. The owner can change `rate` of the route {name:?}."))
        .field(RATE_LIMIT_POLICY, too_many.policy)
        .retry_after(wait);
    match left {
        Ok(left) => problem.field(RATE_LIMIT, left),
        Err(_) => problem,
    }
}

/// The response to a request whose route calls no function.
pub(super) fn own_response(matched: &Matched, head: &Parts) -> Option<Response<EdgeBody>> {
    let route = &*matched.route;
    let mut response = match &route.action {
        RouteAction::Call { .. } | RouteAction::Flow { .. } => return None,
        RouteAction::Redirect { status, location } => {
            let mut response = respond(*status, Default::default());
            let location = redirected(location, matched, &head.uri);
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        RouteAction::Answer { status, headers, body } => {
            let empty = head.method == Method::HEAD;
            let mut response =
                respond(*status, if empty { Default::default() } else { body.clone() });
            response.headers_mut().extend(headers.clone());
            response
        }
    };
    finish(route, head.headers.get(header::ORIGIN), response.headers_mut());
    Some(response)
}

fn respond(status: http::StatusCode, body: bytes::Bytes) -> Response<EdgeBody> {
    let mut response = Response::new(EdgeBody::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(OUTCOME, PLATFORM_OUTCOME);
    response
}

/// The address that a client is sent to. What it has sent cannot choose the host: that is fixed, and a
/// slash at the beginning of a segment does not make another one.
fn redirected(location: &[LocationPart], matched: &Matched, uri: &Uri) -> HeaderValue {
    let mut address = String::new();
    for part in location {
        match part {
            LocationPart::Text(text) => address.push_str(text),
            LocationPart::Parameter(place) => {
                let range = matched.parameters.get(*place).cloned().unwrap_or_default();
                address.push_str(uri.path()[range].trim_start_matches('/'));
            }
        }
    }
    if let Some(query) = uri.query() {
        address.push(if address.contains('?') { '&' } else { '?' });
        address.push_str(query);
    }
    // Both parts are made of characters that addresses have.
    HeaderValue::try_from(address).unwrap_or_else(|_| HeaderValue::from_static("/"))
}

/// Tells the function what the route has made of the request.
pub(super) fn tell(matched: &Matched, head: &mut Parts) {
    let route = &*matched.route;
    route.request_headers.apply(&mut head.headers);
    head.headers.insert(ROUTE, route.name.clone());
    for (name, range) in route.parameters.iter().zip(&matched.parameters) {
        if let Ok(value) = HeaderValue::from_str(&head.uri.path()[range.clone()]) {
            head.headers.insert(name.clone(), value);
        }
    }
}

/// What a response to a request from this origin says.
pub(super) fn finish(route: &Route, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    route.response_headers.apply(headers);
    if let Some(cors) = &route.cors {
        cors.answer(origin, headers);
    }
}
