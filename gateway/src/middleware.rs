//! The layers around both planes, in the order a request meets them.

mod auth;
mod in_flight;
mod request_id;
mod unwind;

use std::sync::Arc;

use axum::{Router, error_handling::HandleErrorLayer, middleware::from_fn};
use store::Store;
use tower::{ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer};
use utoipa_axum::router::OpenApiRouter;

use self::{in_flight::InFlight, unwind::Unwind};
use crate::{edge::Edge, problem::Problem, refusals::Refusals};

pub(crate) use self::auth::require_token;

/// Requests that the control plane handles at once. Arbitrary, large enough for many deploys.
const CONTROL_IN_FLIGHT: usize = 256;

/// What serves the data plane.
pub(crate) type DataPlane = InFlight<Unwind<Edge>>;

/// Wraps the data plane. Few and our own, because each request pays for each.
pub(crate) fn data_plane(edge: Edge, in_flight: usize, refusals: &Arc<Refusals>) -> DataPlane {
    ServiceBuilder::new()
        // Outermost: a full gateway answers before it has looked at anything. The place is held
        // until the response's body has ended.
        .layer_fn(|inner| InFlight::new(inner, in_flight, Arc::clone(refusals)))
        // Around everything that runs our code, so that a panic costs one request.
        .layer_fn(|inner| Unwind::new(inner, Arc::clone(refusals)))
        .service(edge)
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

/// What the layer that checks tokens needs.
#[derive(Clone)]
pub(crate) struct Tokens(pub(crate) Store);
