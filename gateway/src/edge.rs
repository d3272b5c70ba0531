//! Which function does this request mean, and what leaves us?
//!
//! `data_plane` wraps [`Edge`] in the layers that every request passes; `Edge` finds the function
//! of a request, calls it through the invoker, and finishes its response.

pub(crate) mod admission;
mod asynchronous;
pub(crate) mod calls;
pub(crate) mod data_plane;
mod flow_calls;
pub(crate) mod owned_routes;
pub(crate) mod panics;
mod problems;
pub(crate) mod rejections;
pub(crate) mod response_body;
pub(crate) mod routes;
pub(crate) mod server_timing;
mod shadow;
mod trailers;

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Response, Uri, header, request::Parts, uri::PathAndQuery};
use runtime_pool::{FunctionCall, InvocationContext};
use store::Tenant;
use subtle::ConstantTimeEq as _;

use crate::{
    config::{HostRoutes, MinRate, ServerSection},
    edge::{
        asynchronous::{AsyncCall, AsyncCalls},
        calls::{Calls, PreparedCall, targets::Way},
        flow_calls::{FlowCall, FlowCalls},
        owned_routes::{
            RouteGate,
            signed_body::{self, SignedBodies},
        },
        response_body::{
            EdgeBody,
            compression::{Acceptable, Compression},
        },
        routes::{At, Route},
        trailers::Trailers,
    },
    functions::{
        catalog::CatalogEntry,
        routes::{
            auth::SignedBody,
            route::{Route as OwnedRoute, RouteAction},
            table::Matched,
        },
    },
    invoker::channel,
    problem::{Problem, REQUEST_ID},
    request::{
        cookies,
        forwarded::{self, ConnectionOrigin, RequestClient},
        limited_body::BodyFaults,
        server_options, validate,
    },
    server::{HostCertificates, IncomingBody},
    telemetry::request_id::id_header,
    triggers::{call_queue::CallQueue, flows::Flows},
};

/// The header with the secret that lets a request see the timing of its invocation.
const TIMING_SECRET: &str = "mayfly-server-timing";

/// A request that has just come.
pub(crate) struct Arrival {
    /// Without its body.
    pub(crate) call: Box<FunctionCall>,
    /// `None` if the head of the request is its end.
    pub(crate) body: Option<Box<IncomingBody>>,
}

/// Serves requests to functions.
pub(crate) struct Edge {
    calls: Arc<Calls>,
    owned: RouteGate,
    signed_bodies: SignedBodies,
    compression: Compression,
    /// The tenant whose functions are called here.
    tenant: Tenant,
    asynchronous: AsyncCalls,
    flows: FlowCalls,
    min_rate: MinRate,
    host_routes: HostRoutes,
    /// The certificates of owners, by host.
    certificates: HostCertificates,
    no_mount: Arc<str>,
    timing_secret: String,
}

impl Edge {
    pub(crate) fn new(
        calls: Arc<Calls>,
        (queue, flows): (CallQueue, Flows),
        (owned, compression): (RouteGate, Compression),
        (config, certificates): (&ServerSection, HostCertificates),
    ) -> Self {
        Self {
            calls,
            owned,
            signed_bodies: SignedBodies::new(),
            compression,
            tenant: Tenant::default(),
            asynchronous: AsyncCalls::new(queue, Tenant::default()),
            flows: FlowCalls::new(flows, Tenant::default()),
            min_rate: config.min_rate,
            host_routes: config.edge.host_routes,
            certificates,
            no_mount: "".into(),
            timing_secret: config.edge.timing_secret.clone(),
        }
    }

    /// The context of a request that has just come from `origin`. [`Self::answer`] completes it.
    pub(crate) fn context(&self, invocation: u128, origin: &ConnectionOrigin) -> InvocationContext {
        InvocationContext {
            invocation,
            peer: origin.peer(),
            https: false,
            mount: Arc::clone(&self.no_mount),
            cdn_loop: None,
            others: 0,
            timeout: None,
        }
    }

    /// Answers one request, which came from `origin`.
    pub(crate) async fn answer(
        &self,
        arrival: Arrival,
        origin: &ConnectionOrigin,
    ) -> Response<EdgeBody> {
        let invocation = arrival.call.context.invocation;
        let mut applied = None;
        match self.serve(arrival, origin, &mut applied).await {
            Ok(response) => response,
            Err(problem) => match applied {
                None => self.calls.rejections.answer(problem, invocation),
                Some(applied) => self.refuse(problem, &applied, invocation),
            },
        }
    }

    /// The answer to a request to the route of an owner that was refused or failed. Pages that may read
    /// the route's responses may read this one, too.
    fn refuse(
        &self,
        problem: Problem,
        applied: &AppliedRoute,
        invocation: u128,
    ) -> Response<EdgeBody> {
        let route = &applied.route;
        let is_limited = route.timeout.is_some() || route.request_bytes.is_some();
        let problem = if is_limited { problem.of_route(&route.name) } else { problem };
        let mut response = self.calls.rejections.answer(problem, invocation);
        if let Some(cors) = &route.cors {
            cors.answer(applied.origin.as_ref(), response.headers_mut());
        }
        response
    }

    /// The client that a trusted proxy names for a request with these header fields.
    pub(crate) fn named_client(
        &self,
        origin: &ConnectionOrigin,
        headers: &HeaderMap,
    ) -> Option<IpAddr> {
        origin.named_client(headers, &self.calls.proxies)
    }

    /// Whether a request may see the timing of its invocation. Removes the secret, so that the
    /// guest does not see it.
    fn take_timing_secret(&self, headers: &mut HeaderMap) -> bool {
        let Some(sent) = headers.remove(TIMING_SECRET) else { return false };
        !self.timing_secret.is_empty()
            && bool::from(sent.as_bytes().ct_eq(self.timing_secret.as_bytes()))
    }

    /// Refuses a request for a host whose certificate is not the one of the connection: a client that
    /// has checked one owner's certificate has not checked another's. It repeats the request on a
    /// connection of its own.
    fn check_certificate(&self, host: &str, origin: &ConnectionOrigin) -> Result<(), Problem> {
        let Some(connection) = origin.certificate() else { return Ok(()) };
        if self.certificates.of(host) == connection {
            return Ok(());
        }
        Err(Problem::misdirected_request(host))
    }

    async fn serve(
        &self,
        Arrival { mut call, body }: Arrival,
        origin: &ConnectionOrigin,
        applied: &mut Option<Box<AppliedRoute>>,
    ) -> Result<Response<EdgeBody>, Problem> {
        let invocation = call.context.invocation;
        let head = &mut call.head;
        validate::check(head, self.calls.target_bytes)?;
        let cdn_loop = self.calls.cdn_loop(&head.headers)?;
        // Not `||`: the secret must be removed in any case.
        let shown = self.take_timing_secret(&mut head.headers);
        let trailers = Trailers::of(head);
        let Calls { proxies, unwanted, .. } = &*self.calls;
        let client = origin.rewrite(&mut head.headers, proxies, unwanted);
        let host = validate::host(&head.uri, &head.headers)?;
        self.check_certificate(&host.name, origin)?;
        if asynchronous::is_reserved(head.uri.path()) {
            return Box::pin(self.asynchronous.reserved(head, invocation)).await;
        }
        let (target, mount, owned) = match self.route(&host.name, head, &client) {
            Found::Function(route) => {
                let target = self.calls.targets.find(&self.tenant, &route, Way::Address).await?;
                (target, route.mount, None)
            }
            Found::Owned(matched) => {
                let owned = self.owned_target(matched, &client, head, applied);
                // Boxed: the future is large, and most requests do not need it.
                match Box::pin(owned).await? {
                    OwnedTarget::Call(target, owned) => (target, 0, Some(owned)),
                    OwnedTarget::Flow(owned) => {
                        (call.context.peer, call.context.https) = (client.addr, client.https);
                        call.context.cdn_loop = cdn_loop;
                        let response = self.run_flow(&owned, call, body).await?;
                        return Ok(self.finished(applied.as_deref(), response));
                    }
                    OwnedTarget::Response(mut response) => {
                        response.headers_mut().insert(REQUEST_ID, id_header(invocation));
                        return Ok(self.compressed(applied.as_deref(), response));
                    }
                }
            }
            Found::Nothing => return nothing_at(&host.name, head, invocation),
        };
        let waits = !asynchronous::is_wanted(&target, &head.headers);
        let (target, channel) = match waits {
            true => channel::enter(target, &mut head.headers, client.addr.ip(), invocation)?,
            // The channel chooses when the call runs.
            false => (target, None),
        };
        let timing = target.timing || shown;
        cookies::join(&mut head.headers);
        if mount > 0 {
            enter_mount(&mut call, &target, mount)?;
        }
        let owned = match owned {
            None => OwnedLimits::none(&target),
            Some(owned) => begin_owned(&owned, target.request_bytes, &mut call)?,
        };
        (call.context.peer, call.context.https) = (client.addr, client.https);
        call.context.cdn_loop = cdn_loop;
        let faults = match body {
            None => owned.without_body()?,
            // Boxed, so that requests without a body are small.
            Some(body) => Some(Box::pin(self.begin_body(*body, &mut call, owned)).await?),
        };
        let response = if waits {
            let prepared = PreparedCall { target, channel, call, faults, timing };
            let (mut parts, body) = self.calls.call(prepared).await?;
            trailers.announce(&mut parts);
            calls::sign(&mut parts.headers, invocation);
            Response::from_parts(parts, body.into())
        } else {
            let route = applied.as_ref().map(|applied| &*applied.route);
            let asked = AsyncCall { target, call, faults, route };
            // Boxed: the future is large, and most clients wait for the answer.
            Box::pin(self.asynchronous.enqueue(asked)).await?
        };
        Ok(self.finished(applied.as_deref(), response))
    }

    /// Makes a response what its route says.
    fn finished(
        &self,
        applied: Option<&AppliedRoute>,
        mut response: Response<EdgeBody>,
    ) -> Response<EdgeBody> {
        if let Some(owned) = applied {
            let headers = response.headers_mut();
            owned_routes::finish(&owned.route, owned.origin.as_ref(), headers);
        }
        self.compressed(applied, response)
    }

    /// Runs the flow of a route.
    async fn run_flow(
        &self,
        owned: &OwnedCall,
        mut call: Box<FunctionCall>,
        body: Option<Box<IncomingBody>>,
    ) -> Result<Response<EdgeBody>, Problem> {
        let route = &owned.matched.route;
        let RouteAction::Flow { flow, .. } = &route.action else {
            return Err(Problem::no_route());
        };
        cookies::join(&mut call.head.headers);
        let limits = begin_owned(owned, self.flows.request_bytes(), &mut call)?;
        let faults = match body {
            None => limits.without_body()?,
            Some(body) => Some(self.begin_body(*body, &mut call, limits).await?),
        };
        self.flows.answer(FlowCall { flow, call, faults, route }).await
    }

    /// Compresses a response, if its route asks for it.
    fn compressed(
        &self,
        applied: Option<&AppliedRoute>,
        response: Response<EdgeBody>,
    ) -> Response<EdgeBody> {
        let Some((applied, client)) =
            applied.and_then(|applied| Some((applied, applied.client.as_ref()?)))
        else {
            return response;
        };
        let (mut head, body) = response.into_parts();
        let body = self.compression.apply(&applied.route.compression, client, &mut head, body);
        Response::from_parts(head, body)
    }

    /// Where a request goes. The routes of owners that name its host come first, then the addresses of
    /// functions, then the routes for any host.
    fn route<'a>(&self, host: &'a str, parts: &'a Parts, client: &RequestClient) -> Found<'a> {
        let path = parts.uri.path();
        if path == "*" {
            return Found::Nothing;
        }
        let tables = self.owned.routes().tables();
        let owned = tables.get(&self.tenant).map(|table| (table, owned_routes::asked(parts)));
        if let Some((table, asked)) = &owned
            && let Some(found) = table.at_host(host, *asked)
        {
            return Found::Owned(Box::new(found));
        }
        let may_name_hosts = match self.host_routes {
            HostRoutes::Local => client.local,
            HostRoutes::All => true,
            HostRoutes::Off => false,
        };
        if let Some(route) = routes::find(host, path, may_name_hosts) {
            return Found::Function(route);
        }
        match owned.and_then(|(table, asked)| table.anywhere(asked)) {
            Some(found) => Found::Owned(Box::new(found)),
            None => Found::Nothing,
        }
    }

    /// What the route of an owner leads to.
    async fn owned_target(
        &self,
        mut matched: Box<Matched>,
        client: &RequestClient,
        head: &mut Parts,
        applied: &mut Option<Box<AppliedRoute>>,
    ) -> Result<OwnedTarget, Problem> {
        let mut called = self.called(&matched).await;
        // What it calls is gone: the routes may have changed since this one was found.
        if let Some(Err(_)) = called {
            let host = validate::host(&head.uri, &head.headers)?;
            if let Found::Owned(again) = self.route(&host.name, head, client) {
                matched = again;
                called = self.called(&matched).await;
            }
        }
        *applied = Some(Box::new(AppliedRoute::of(&matched.route, head)));
        let client = client.addr.ip();
        if let Some(response) = owned_routes::preflight(&matched.route, head) {
            return Ok(OwnedTarget::Response(response));
        }
        let signed = self.owned.admit(&matched.route, &self.tenant, client, head).await?;
        if let Some(response) = owned_routes::own_response(&matched, head) {
            return Ok(OwnedTarget::Response(response));
        }
        match called {
            Some(Ok(target)) => {
                Ok(OwnedTarget::Call(target, Box::new(OwnedCall { matched, signed })))
            }
            Some(Err(problem)) => Err(Problem::route_without_target(&matched.route.name, problem)),
            // All others have answered.
            None => Ok(OwnedTarget::Flow(Box::new(OwnedCall { matched, signed }))),
        }
    }

    /// The function that a route calls, if it calls one.
    async fn called(&self, matched: &Matched) -> Option<Result<Arc<CatalogEntry>, Problem>> {
        let RouteAction::Call { function, channel, .. } = &matched.route.action else {
            return None;
        };
        let at = channel.as_deref().map_or(At::Default, At::Channel);
        let route = Route { function, at, mount: 0 };
        Some(self.calls.targets.find(&self.tenant, &route, Way::Within).await)
    }

    /// Gives the call its body, within the limits of its route.
    async fn begin_body(
        &self,
        body: IncomingBody,
        call: &mut FunctionCall,
        limits: OwnedLimits,
    ) -> Result<BodyFaults, Problem> {
        let max = limits.request_bytes;
        let faults = calls::begin_limited_body(body, call, max, self.min_rate).await?;
        if let Some(signed) = limits.signed {
            let body = std::mem::take(&mut call.body);
            call.body = self.signed_bodies.read(body, signed, &faults).await?;
        }
        Ok(faults)
    }
}

/// The answer where neither host nor path leads anywhere.
fn nothing_at(host: &str, head: &Parts, invocation: u128) -> Result<Response<EdgeBody>, Problem> {
    if server_options::is_asked(&head.method, head.uri.path()) {
        let mut response = server_options::answer();
        response.headers_mut().insert(REQUEST_ID, id_header(invocation));
        Ok(response)
    } else if routes::is_function_host(host) {
        Err(Problem::host_without_route())
    } else {
        Err(Problem::no_route())
    }
}

/// Where a request goes.
enum Found<'a> {
    /// To a function, by an address of the function's own.
    Function(Route<'a>),
    /// To what a route of an owner says.
    Owned(Box<Matched>),
    Nothing,
}

/// What the route of an owner leads to.
enum OwnedTarget {
    Call(Arc<CatalogEntry>, Box<OwnedCall>),
    Flow(Box<OwnedCall>),
    Response(Response<EdgeBody>),
}

/// A call by the route of an owner.
struct OwnedCall {
    matched: Box<Matched>,
    signed: Option<SignedBody>,
}

/// What a body may be.
#[derive(Clone, Copy)]
struct OwnedLimits {
    request_bytes: u64,
    /// What it must be, if the request is signed.
    signed: Option<SignedBody>,
}

impl OwnedLimits {
    /// Without a route of an owner.
    fn none(target: &CatalogEntry) -> Self {
        Self { request_bytes: target.request_bytes, signed: None }
    }

    /// Checks a request that has no body. There is nothing that could be wrong with it later.
    fn without_body(self) -> Result<Option<BodyFaults>, Problem> {
        self.signed.map_or(Ok(()), signed_body::check_none)?;
        Ok(None)
    }
}

/// What is left to do for the route of an owner when there is an answer.
struct AppliedRoute {
    route: Arc<OwnedRoute>,
    /// Whose page asks, if the route says something about that.
    origin: Option<HeaderValue>,
    /// What the client can read, if the route compresses.
    client: Option<Acceptable>,
}

impl AppliedRoute {
    fn of(route: &Arc<OwnedRoute>, head: &Parts) -> Self {
        let origin = route.cors.as_ref().and_then(|_| head.headers.get(header::ORIGIN).cloned());
        let compresses = !route.compression.is_empty();
        let client = compresses.then(|| Acceptable::of(&head.method, &head.headers));
        Self { route: Arc::clone(route), origin, client }
    }
}

/// Makes a call what the route of an owner says. Its target takes bodies of so many bytes at most.
fn begin_owned(
    owned: &OwnedCall,
    most: u64,
    call: &mut FunctionCall,
) -> Result<OwnedLimits, Problem> {
    let (head, route) = (&mut call.head, &owned.matched.route);
    owned_routes::tell(&owned.matched, head);
    if let RouteAction::Call { mount: Some((mount, field)), .. }
    | RouteAction::Flow { mount: Some((mount, field)), .. } = &route.action
    {
        head.uri = below_mount(&head.uri, mount.len()).ok_or_else(Problem::bad_target)?;
        forwarded::tell_mount(&mut head.headers, field);
        call.context.mount = Arc::clone(mount);
    }
    call.context.timeout = route.timeout;
    let of_route = route.request_bytes.unwrap_or(u64::MAX);
    let of_signed = owned.signed.map_or(u64::MAX, |_| signed_body::SIGNED_BODY_BYTES);
    let request_bytes = most.min(of_route).min(of_signed);
    Ok(OwnedLimits { request_bytes, signed: owned.signed })
}

/// Makes a call by path one of the function.
fn enter_mount(
    call: &mut FunctionCall,
    target: &CatalogEntry,
    mount: usize,
) -> Result<(), Problem> {
    let head = &mut call.head;
    head.uri = below_mount(&head.uri, mount).ok_or_else(Problem::bad_target)?;
    forwarded::tell_mount(&mut head.headers, &target.mount_field);
    call.context.mount = Arc::clone(&target.mount);
    Ok(())
}

/// The address as the function sees it: below its mount, the first `mount` bytes of the path.
fn below_mount(uri: &Uri, mount: usize) -> Option<Uri> {
    let path = &uri.path_and_query()?.as_str()[mount..];
    let path = match path {
        "" | "/" => PathAndQuery::from_static("/"),
        path if path.starts_with('/') => PathAndQuery::try_from(path).ok()?,
        // `/f/hello?x` is the function's root with a query.
        query => PathAndQuery::try_from(format!("/{query}")).ok()?,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
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
            ("http://x:1/f/hello/a", 8, "http://x:1/a"),
        ] {
            assert_eq!(below_mount(&uri.parse().unwrap(), mount).unwrap().to_string(), expected);
        }
    }
}
