//! The layers around the data plane, in the order in which a request passes them.

use std::{convert::Infallible, pin::pin, sync::Arc};

use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use hyper::service::{Service, service_fn};
use runtime_pool::{FunctionCall, RequestBody};

use crate::{
    edge::{
        Arrival, Edge,
        admission::{
            CallPermit,
            clients::{Client, Clients},
            in_flight::InFlight,
            load_shed::LoadShedder,
        },
        calls::within::CallsWithin,
        panics,
        rejections::Rejections,
        response_body::EdgeBody,
    },
    problem::Problem,
    request::forwarded::ConnectionOrigin,
    server::{IncomingBody, Peer},
    telemetry::request_id::{RequestIdSource, RequestIds},
};

/// Serves the data plane.
pub(crate) struct DataPlane {
    edge: Edge,
    /// Functions can call each other for as long as it runs.
    _within: Arc<CallsWithin>,
    in_flight: Arc<InFlight>,
    clients: Arc<Clients>,
    load_shedder: Arc<LoadShedder>,
    rejections: Arc<Rejections>,
    request_ids: RequestIdSource,
}

impl DataPlane {
    pub(crate) fn new(
        edge: Edge,
        within: Arc<CallsWithin>,
        (in_flight, clients): (InFlight, Clients),
        load_shedder: Arc<LoadShedder>,
        rejections: Arc<Rejections>,
        request_ids: RequestIdSource,
    ) -> Self {
        let (in_flight, clients) = (Arc::new(in_flight), Arc::new(clients));
        Self { edge, _within: within, in_flight, clients, load_shedder, rejections, request_ids }
    }

    /// The service of the connection from `peer`.
    pub(crate) fn connection(
        self: &Arc<Self>,
        peer: Peer,
    ) -> impl Service<
        Request<IncomingBody>,
        Response = Response<EdgeBody>,
        Error = Infallible,
        Future: Send,
    > + use<> {
        let request_ids = self.request_ids.for_connection();
        // The connections of a trusted proxy belong to many clients.
        let client = (!peer.trusted).then(|| self.clients.at(peer.addr.ip()));
        let origin = ConnectionOrigin::new(peer);
        let plane = Arc::clone(self);
        let connection = Arc::new(DataPlaneConnection { plane, origin, client, request_ids });
        service_fn(move |request| Arc::clone(&connection).answer(connection.arrival(request)))
    }
}

/// One connection to the data plane. Its requests share it, and so count references to it where no
/// other thread does.
struct DataPlaneConnection {
    plane: Arc<DataPlane>,
    origin: ConnectionOrigin,
    /// Its client, unless it comes from a trusted proxy.
    client: Option<Arc<Client>>,
    request_ids: RequestIds,
}

impl DataPlaneConnection {
    /// A request that has just come.
    fn arrival(&self, request: Request<IncomingBody>) -> Arrival {
        let (head, body) = request.into_parts();
        let context = self.plane.edge.context(self.request_ids.next(), &self.origin);
        Arrival {
            body: (!body.is_end_stream()).then(|| Box::new(body)),
            call: Box::new(FunctionCall { head, body: RequestBody::Empty, context }),
        }
    }

    /// Answers one request. The layers are few and our own, because each request pays for each. Their
    /// futures are small: the protocol library moves them.
    async fn answer(
        self: Arc<Self>,
        mut arrival: Arrival,
    ) -> Result<Response<EdgeBody>, Infallible> {
        let DataPlane { edge, load_shedder, rejections, .. } = &*self.plane;
        let invocation = arrival.call.context.invocation;
        // Outermost: a request that could not be served in time costs as little as possible.
        if let Some(problem) = load_shedder.rejection() {
            return Ok(rejections.answer(problem, invocation));
        }
        // Next, for the same reason: a full gateway answers before it inspects the request. The
        // permit is held until the response's body has ended.
        let permit = match self.admit(&arrival.call.head.headers) {
            Ok(permit) => permit,
            Err(problem) => return Ok(rejections.answer(problem, invocation)),
        };
        arrival.call.context.others = permit.others;
        let call = pin!(edge.answer(arrival, &self.origin));
        // Around all other code of the gateway, so that a panic costs one request.
        let response = panics::answer(call, rejections, invocation).await;
        Ok(response.map(|body| body.holding(permit)))
    }

    /// A permit for a request with these header fields.
    fn admit(&self, headers: &HeaderMap) -> Result<CallPermit, Problem> {
        let DataPlane { edge, in_flight, clients, .. } = &*self.plane;
        let named = match &self.client {
            Some(_) => None,
            None => edge.named_client(&self.origin, headers).map(|address| clients.at(address)),
        };
        CallPermit::acquire(in_flight, self.client.as_ref().or(named.as_ref()), clients.max())
    }
}
