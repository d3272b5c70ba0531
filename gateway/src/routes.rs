//! The control plane's routes. If it can be called there, it is on this page.

mod functions;
mod limits;
mod logs;
mod probes;
mod revisions;
mod secrets;
mod tokens;
mod view;
mod warm_view;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use axum::{
    Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequest, FromRequestParts, Request,
        rejection::{BytesRejection, FailedToBufferBody},
    },
};
use http::request::Parts;
use prometheus::Registry;
use runtime_pool::{Pool, Sandbox};
use serde::de::DeserializeOwned;
use store::Store;
use tokio::sync::watch;
use utoipa::{
    OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    catalog::Catalog,
    config::Numbers,
    deploy::Deployer,
    middleware::{self, Tokens},
    problem::Problem,
    quarantine::Quarantine,
    secrets::Secrets,
    token::Scope,
};

/// Bytes of a JSON body.
const JSON_BYTES: usize = 256 << 10;

/// What the routes about functions need.
#[derive(Clone)]
pub(crate) struct Functions {
    pub(crate) deployer: Deployer,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) store: Store,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) pool: Arc<Pool>,
    /// What the node allows, by section.
    pub(crate) limits: Arc<ArcSwap<Numbers>>,
    /// Which barriers stand around the compiler, once that was tried.
    pub(crate) sandbox: Arc<OnceLock<Sandbox>>,
    pub(crate) secrets: Secrets,
    /// What functions' addresses begin with, without a slash at its end.
    pub(crate) public_base: Arc<str>,
}

/// The variable parts of a path. What cannot be decoded is a problem like any other.
struct Path<T>(T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let decoded = axum::extract::Path::from_request_parts(parts, state).await;
        decoded.map(|axum::extract::Path(parts)| Self(parts)).map_err(|_| Problem::bad_target())
    }
}

/// A small body as it was sent. What cannot be read is a problem like any other.
struct Document(Bytes);

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        use BytesRejection::FailedToBufferBody as NotRead;
        Bytes::from_request(request, state).await.map(Self).map_err(|rejection| match rejection {
            NotRead(FailedToBufferBody::LengthLimitError(_)) => {
                Problem::document_too_large(JSON_BYTES)
            }
            other => Problem::bad_body(other),
        })
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Mayfly control plane",
        description = "Deploys WebAssembly functions and says what became of them. Errors are \
                       problem details (RFC 9457); their `type` is stable.",
    ),
    tags(
        (name = "functions", description = "What is deployed"),
        (name = "secrets", description = "Values that are put into requests of functions"),
        (name = "tokens", description = "Who may use this API"),
        (name = "probes", description = "How the gateway is"),
    ),
)]
struct Api;

/// Every route of the control plane. A route is with those that need the same scope; what is in
/// none of these groups is not served.
pub(crate) fn control_plane(
    functions: Functions,
    tokens: Tokens,
    registry: Registry,
    ready: watch::Receiver<bool>,
) -> prometheus::Result<Router> {
    let problems = middleware::control_problems(&registry)?;
    let (store, secrets) = (functions.store.clone(), functions.secrets.clone());
    let read = OpenApiRouter::new()
        .routes(routes!(functions::list))
        .routes(routes!(functions::show))
        .routes(routes!(functions::artifact))
        .routes(routes!(revisions::list))
        .routes(routes!(logs::list))
        .routes(routes!(limits::show))
        .with_state(functions.clone());
    let deploy = OpenApiRouter::new()
        .routes(routes!(functions::deploy, functions::change, functions::delete))
        .routes(routes!(revisions::activate))
        .with_state(functions);
    let admin = OpenApiRouter::new()
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(tokens::revoke))
        .with_state(store)
        .merge(
            OpenApiRouter::new()
                .routes(routes!(secrets::list))
                .routes(routes!(secrets::put, secrets::delete))
                .with_state(secrets),
        );
    let tokens = Arc::new(tokens);
    let needing = |scope, routes| middleware::guarded(&tokens, scope, routes);
    let guarded = needing(Scope::Read, read)
        .merge(needing(Scope::Deploy, deploy))
        .merge(needing(Scope::Admin, admin))
        .layer(DefaultBodyLimit::max(JSON_BYTES));
    // Around the check of tokens, which asks the database.
    let guarded = middleware::bounded(guarded);
    let open = OpenApiRouter::new()
        .routes(routes!(probes::healthz))
        .routes(routes!(probes::readyz))
        .routes(routes!(probes::metrics))
        .with_state(probes::Probes { registry, ready });

    let (router, mut api) =
        OpenApiRouter::with_openapi(Api::openapi()).merge(guarded).merge(open).split_for_parts();
    api.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    api.components
        .get_or_insert_default()
        .add_security_scheme(middleware::SECURITY_SCHEME, SecurityScheme::Http(bearer));
    let router = router
        .merge(probes::openapi(&api))
        .fallback(async || Problem::no_resource())
        .method_not_allowed_fallback(async || Problem::method_not_allowed());
    Ok(middleware::control_plane(router, problems))
}
