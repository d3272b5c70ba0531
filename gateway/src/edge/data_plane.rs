//! The layers around the data plane, in the order a request meets them.

use std::{convert::Infallible, sync::Arc};

use http::{Request, Response};
use hyper::service::{Service, service_fn};

use crate::{
    edge::{
        Edge,
        admission::{in_flight::InFlight, load_shed::LoadShedder},
        panics,
        rejections::Rejections,
        response_body::EdgeBody,
    },
    problem::Problem,
    request::forwarded::Origin,
    server::{IncomingBody, Peer},
    telemetry::request_id::{RequestIdSource, RequestIds},
};

/// What serves the data plane.
pub(crate) struct DataPlane {
    edge: Edge,
    in_flight: Arc<InFlight>,
    pressure: Arc<LoadShedder>,
    refusals: Arc<Rejections>,
    request_ids: RequestIdSource,
}

impl DataPlane {
    pub(crate) fn new(
        edge: Edge,
        in_flight: usize,
        pressure: Arc<LoadShedder>,
        refusals: Arc<Rejections>,
        request_ids: RequestIdSource,
    ) -> Self {
        let in_flight = Arc::new(InFlight::new(in_flight));
        Self { edge, in_flight, pressure, refusals, request_ids }
    }

    /// What serves the connection of the client at `peer`.
    pub(crate) fn connection(
        self: &Arc<Self>,
        peer: Peer,
    ) -> impl Service<
        Request<IncomingBody>,
        Response = Response<EdgeBody>,
        Error = Infallible,
        Future: Send,
    > + use<> {
        let names = self.request_ids.for_connection();
        let connection =
            Arc::new(Connection { plane: Arc::clone(self), origin: Origin::new(peer), names });
        service_fn(move |request| Arc::clone(&connection).answer(request))
    }
}

/// One connection to the data plane. Its requests share it, and so count references where no
/// other thread does.
struct Connection {
    plane: Arc<DataPlane>,
    origin: Origin,
    names: RequestIds,
}

impl Connection {
    /// Answers one request. Few layers and our own, because each request pays for each.
    async fn answer(
        self: Arc<Self>,
        request: Request<IncomingBody>,
    ) -> Result<Response<EdgeBody>, Infallible> {
        let DataPlane { edge, in_flight, pressure, refusals, .. } = &*self.plane;
        let invocation = self.names.next();
        // Outermost: what could not be served in time costs as little as can be.
        if let Some(problem) = pressure.refusal() {
            return Ok(refusals.answer(problem, invocation));
        }
        // Like that: a full gateway answers before it has looked at anything. The place is held
        // until the response's body has ended.
        let Some(place) = InFlight::enter(in_flight) else {
            return Ok(refusals.answer(Problem::overloaded(), invocation));
        };
        // Around everything that runs our code, so that a panic costs one request.
        let call = edge.answer(request, &self.origin, invocation);
        let response = panics::answer(call, refusals, invocation).await;
        Ok(response.map(|body| body.holding(place)))
    }
}
