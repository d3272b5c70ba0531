//! The layers around the control plane, in the order a request meets them.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::{Router, error_handling::HandleErrorLayer, middleware::from_fn_with_state};
use http::{Request, request::Parts};
use http_body::Body as _;
use hyper::service::Service;
use prometheus::{IntCounterVec, Opts, Registry};
use tower::{ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    config::{MinRate, ServerSection},
    control::{auth::own_hosts::OwnHosts, request_log, resources::node::probes},
    problem::Problem,
    request::{
        limited_body::{BodyFaults, LimitedBody},
        server_options, validate,
    },
    server::{IncomingBody, Peer},
};

/// The concurrency limit of the control plane. Arbitrary, large enough for many deploys.
const CONTROL_IN_FLIGHT: usize = 256;

/// The control plane, ready for connections.
pub(crate) struct ControlPlane {
    router: Router,
    checks: Arc<RequestChecks>,
}

/// What every request must be, whatever it asks for.
struct RequestChecks {
    target_bytes: usize,
    min_rate: MinRate,
    hosts: OwnHosts,
}

impl ControlPlane {
    /// `listener` is where it listens.
    pub(crate) fn new(router: Router, config: &ServerSection, listener: SocketAddr) -> Self {
        let hosts = OwnHosts::new(&config.control.admin_hosts, listener);
        let (target_bytes, min_rate) = (config.listener.http.uri_bytes, config.min_rate);
        Self { router, checks: Arc::new(RequestChecks { target_bytes, min_rate, hosts }) }
    }

    pub(crate) fn connection(&self, peer: Peer) -> ControlConnection {
        let (router, checks) = (self.router.clone(), Arc::clone(&self.checks));
        ControlConnection { router, checks, peer }
    }
}

/// Serves one connection of the control plane. Routes that need a token have layers of their own.
pub(crate) struct ControlConnection {
    router: Router,
    checks: Arc<RequestChecks>,
    peer: Peer,
}

impl RequestChecks {
    /// Before routing, so that routes and permissions see the same path.
    fn check(&self, parts: &mut Parts, peer: &Peer) -> Result<(), Problem> {
        validate::check(parts, self.target_bytes)?;
        let host = validate::host(&parts.uri, &parts.headers)?;
        // A load balancer's checks name whatever they like, and probes tell nothing.
        let path = parts.uri.path();
        if probes::PATHS.contains(&path) || server_options::is_asked(&parts.method, path) {
            return Ok(());
        }
        self.hosts.check(&host, &parts.headers, peer.tls)
    }
}

impl Service<Request<IncomingBody>> for ControlConnection {
    type Response = axum::response::Response;
    type Error = Infallible;
    type Future = <Router as tower::Service<Request<axum::body::Body>>>::Future;

    fn call(&self, request: Request<IncomingBody>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(self.peer);
        if let Err(problem) = self.checks.check(&mut parts, &self.peer) {
            parts.extensions.insert(problem);
        }
        let body = if body.is_end_stream() {
            axum::body::Body::empty()
        } else {
            let faults = BodyFaults::default();
            parts.extensions.insert(faults.clone());
            // Each route has its own limit of the size.
            axum::body::Body::new(LimitedBody::new(body, u64::MAX, self.checks.min_rate, faults))
        };
        let request = Request::from_parts(parts, body);
        tower::Service::call(&mut self.router.clone(), request)
    }
}

/// Registers the metric of the control plane's problems.
pub(crate) fn control_problems(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let help = "Requests to the control plane that were refused or failed, by type of problem";
    let problems = IntCounterVec::new(Opts::new("mayfly_control_problems_total", help), &["type"])?;
    registry.register(Box::new(problems.clone()))?;
    Ok(problems)
}

/// Wraps the control plane's routes.
pub(crate) fn control_plane(router: Router, problems: IntCounterVec) -> Router {
    router.layer(
        ServiceBuilder::new()
            // Outermost, so that every answer has a request id, refusals and panics included.
            .layer(from_fn_with_state(problems, request_log::name))
            // Around all handlers, so that a panic ends one request only.
            .layer(tower_http::catch_panic::CatchPanicLayer::custom(|_| {
                axum::response::IntoResponse::into_response(Problem::broken())
            })),
    )
}

/// Limits the concurrency of these routes. Probes bypass this limit: a busy node must still report
/// healthy.
pub(crate) fn bounded(router: OpenApiRouter) -> OpenApiRouter {
    router.layer(
        ServiceBuilder::new()
            // Load shedding before the limit: a request beyond the limit is refused at once instead
            // of waiting.
            .layer(HandleErrorLayer::new(async |_| Problem::control_plane_overloaded()))
            .layer(LoadShedLayer::new())
            .layer(GlobalConcurrencyLimitLayer::new(CONTROL_IN_FLIGHT)),
    )
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    /// Case G28.
    #[tokio::test]
    async fn a_panic_on_the_control_plane_is_a_500_and_the_next_request_is_answered() {
        let panics = async || -> &'static str { panic!("on purpose") };
        let router = Router::new().route("/panics", get(panics)).route("/", get(async || "well"));
        let router = control_plane(router, control_problems(&Registry::new()).unwrap());
        for (path, status) in [("/panics", 500), ("/panics", 500), ("/", 200)] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
            let problem = response.headers().get("mayfly-outcome").map(|fault| fault.as_bytes());
            assert_eq!(problem, (status == 500).then_some(&b"platform"[..]), "{path}");
        }
    }
}
