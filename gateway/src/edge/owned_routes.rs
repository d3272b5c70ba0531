//! Applies the routes of owners.

use http::{HeaderMap, HeaderValue, Method, Response, header, request::Parts, uri::Uri};

use crate::{
    edge::response_body::EdgeBody,
    functions::routes::{
        cors::Cors,
        route::{Asked, LocationPart, Route, RouteAction},
        table::Matched,
    },
    problem::{OUTCOME, Problem},
};

/// The response is no function's.
const PLATFORM_OUTCOME: HeaderValue = HeaderValue::from_static("platform");
/// Tells the function which route has led to it.
const ROUTE: &str = "mayfly-route";

/// The parts of a request that routes depend on.
pub(super) fn asked(head: &Parts) -> Asked<'_> {
    Asked { path: head.uri.path(), method: &head.method, headers: &head.headers }
}

/// The response to a request whose route calls no function, and to a preflight request.
pub(super) fn own_response(matched: &Matched, head: &Parts) -> Option<Response<EdgeBody>> {
    let route = &*matched.route;
    if let Some(cors) = &route.cors
        && Cors::is_preflight(&head.method, &head.headers)
    {
        let mut response = respond(http::StatusCode::NO_CONTENT, Default::default());
        cors.answer_preflight(head.headers.get(header::ORIGIN), response.headers_mut());
        return Some(response);
    }
    let mut response = match &route.action {
        RouteAction::Call { .. } => return None,
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

impl Problem {
    /// A route leads to nothing any more.
    pub(super) fn route_without_target(name: &HeaderValue, problem: Self) -> Self {
        let name = name.to_str().unwrap_or_default();
        problem.hint(format!("The route {name:?} names it: correct or delete the route."))
    }
}
