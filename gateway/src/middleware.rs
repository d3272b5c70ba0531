//! The layers around both planes, in the order a request meets them.

mod attempts;
mod auth;
mod in_flight;
mod request_id;
mod unwind;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Instant};

use axum::{Router, error_handling::HandleErrorLayer, middleware::from_fn};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::service::TowerToHyperService;
use tower::{
    ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer, util::MapRequest,
};
use utoipa_axum::router::OpenApiRouter;

use self::{auth::Peer, in_flight::InFlight, unwind::caught};
use crate::{
    body::EdgeBody,
    edge::Edge,
    pressure::{Pressure, Reason},
    problem::Problem,
    refusals::{Names, Refusals},
};

pub(crate) use self::{
    auth::{SECURITY_SCHEME, Tokens, guarded},
    in_flight::Place,
};

/// Requests that the control plane handles at once. Arbitrary, large enough for many deploys.
const CONTROL_IN_FLIGHT: usize = 256;

/// What serves the data plane.
pub(crate) struct DataPlane {
    edge: Edge,
    in_flight: Arc<InFlight>,
    pressure: Arc<Pressure>,
    refusals: Arc<Refusals>,
}

impl DataPlane {
    pub(crate) fn new(
        edge: Edge,
        in_flight: usize,
        pressure: Arc<Pressure>,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self { edge, in_flight: Arc::new(InFlight::new(in_flight)), pressure, refusals }
    }

    /// What serves the connection of the client at `peer`.
    pub(crate) fn connection(
        self: &Arc<Self>,
        peer: SocketAddr,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<EdgeBody>,
        Error = Infallible,
        Future: Send,
    > + use<> {
        let names = self.refusals.names();
        let connection = Arc::new(Connection { plane: Arc::clone(self), peer, names });
        service_fn(move |request| Arc::clone(&connection).answer(request))
    }
}

/// One connection to the data plane. Its requests share it, and so count references where no
/// other thread does.
struct Connection {
    plane: Arc<DataPlane>,
    peer: SocketAddr,
    names: Names,
}

impl Connection {
    /// Answers one request. Few layers and our own, because each request pays for each.
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<EdgeBody>, Infallible> {
        let DataPlane { edge, in_flight, pressure, refusals } = &*self.plane;
        let invocation = self.names.next();
        match pressure.refuses(Instant::now(), invocation) {
            None => {}
            Some(Reason::Behind) => {
                return Ok(refusals.answer(Problem::too_far_behind(), invocation));
            }
            Some(Reason::Memory) => {
                return Ok(refusals.answer(Problem::memory_pressure(), invocation));
            }
        }
        // Outermost: a full gateway answers before it has looked at anything. The place is held
        // until the response's body has ended.
        let Some(place) = InFlight::enter(in_flight) else {
            return Ok(refusals.answer(Problem::overloaded(), invocation));
        };
        // Around everything that runs our code, so that a panic costs one request.
        let response = match caught(edge.answer(request, self.peer, invocation)).await {
            Some(response) => response,
            None => refusals.answer(Problem::broken(), invocation),
        };
        Ok(response.map(|body| body.holding(place)))
    }
}

/// Wraps the control plane's routes; those that need a token have their own layers inside.
pub(crate) fn control_plane(router: Router) -> Router {
    router.layer(
        ServiceBuilder::new()
            // Outermost, so that every answer has a name, refusals and panics included.
            .layer(from_fn(request_id::name))
            // Around everything that runs our code, so that a panic costs one request.
            .layer(tower_http::catch_panic::CatchPanicLayer::custom(|_| {
                axum::response::IntoResponse::into_response(Problem::broken())
            })),
    )
}

/// What serves the control plane's connection of the client at `peer`.
pub(crate) fn control_connection(
    control_plane: &Router,
    peer: SocketAddr,
) -> impl Service<
    Request<Incoming>,
    Response = axum::response::Response,
    Error = Infallible,
    Future: Send,
> + use<> {
    let from_peer = move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request
    };
    TowerToHyperService::new(MapRequest::new(control_plane.clone(), from_peer))
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
