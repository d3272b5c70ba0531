//! The layers around the control plane, in the order a request meets them.

use std::convert::Infallible;

use axum::{Router, error_handling::HandleErrorLayer, middleware::from_fn_with_state};
use http::Request;
use http_body::Body as _;
use hyper::service::Service;
use prometheus::{IntCounterVec, Opts, Registry};
use tower::{ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    config::{MinRate, ServerSection},
    control::request_log,
    problem::Problem,
    request::{
        limited_body::{BodyFaults, LimitedBody},
        validate,
    },
    server::{IncomingBody, Peer},
};

/// Requests that the control plane handles at once. Arbitrary, large enough for many deploys.
const CONTROL_IN_FLIGHT: usize = 256;

/// What serves one connection of the control plane. Those routes that need a token have layers of
/// their own inside.
pub(crate) struct ControlConnection {
    router: Router,
    target_bytes: usize,
    pace: MinRate,
    peer: Peer,
}

impl ControlConnection {
    pub(crate) fn new(router: &Router, config: &ServerSection, peer: Peer) -> Self {
        let (router, pace) = (router.clone(), config.min_rate);
        Self { router, target_bytes: config.listener.http.uri_bytes, pace, peer }
    }
}

impl Service<Request<IncomingBody>> for ControlConnection {
    type Response = axum::response::Response;
    type Error = Infallible;
    type Future = <Router as tower::Service<Request<axum::body::Body>>>::Future;

    fn call(&self, request: Request<IncomingBody>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(self.peer);
        // Before the routes are looked at, so that they and the permissions go by the same path.
        let checked = validate::check(&mut parts, self.target_bytes)
            .and_then(|()| validate::host(&parts.uri, &parts.headers).map(drop));
        if let Err(problem) = checked {
            parts.extensions.insert(problem);
        }
        let body = if body.is_end_stream() {
            axum::body::Body::empty()
        } else {
            let troubles = BodyFaults::default();
            parts.extensions.insert(troubles.clone());
            // How large it may be is each route's own question.
            axum::body::Body::new(LimitedBody::new(body, u64::MAX, self.pace, troubles))
        };
        let request = Request::from_parts(parts, body);
        tower::Service::call(&mut self.router.clone(), request)
    }
}

/// Counts the control plane's problems, by type.
pub(crate) fn control_problems(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let help = "Requests to the control plane that were refused or failed, by type";
    let problems = IntCounterVec::new(Opts::new("mayfly_control_problems_total", help), &["type"])?;
    registry.register(Box::new(problems.clone()))?;
    Ok(problems)
}

/// Wraps the control plane's routes.
pub(crate) fn control_plane(router: Router, problems: IntCounterVec) -> Router {
    router.layer(
        ServiceBuilder::new()
            // Outermost, so that every answer has a name, refusals and panics included.
            .layer(from_fn_with_state(problems, request_log::name))
            // Around everything that runs our code, so that a panic costs one request.
            .layer(tower_http::catch_panic::CatchPanicLayer::custom(|_| {
                axum::response::IntoResponse::into_response(Problem::broken())
            })),
    )
}

/// Bounds what the control plane does at once. Not for probes: who is busy is not dead, and that
/// is just when somebody wants to see the metrics.
pub(crate) fn bounded(router: OpenApiRouter) -> OpenApiRouter {
    router.layer(
        ServiceBuilder::new()
            // Shed before the limit: who does not fit is told at once instead of waiting.
            .layer(HandleErrorLayer::new(async |_| Problem::control_plane_overloaded()))
            .layer(LoadShedLayer::new())
            .layer(GlobalConcurrencyLimitLayer::new(CONTROL_IN_FLIGHT)),
    )
}
