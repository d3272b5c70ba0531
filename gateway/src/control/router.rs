//! All routes of the control plane, on one page.

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit};
use utoipa::{
    OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    control::{
        apply,
        auth::{self, Tokens, tokens::Scope},
        extract::{JSON_BYTES, MANIFEST_BYTES},
        layers,
        resources::{
            access::{certificates, secrets, tokens as api_tokens},
            channels, diff, files, functions, logs,
            node::{
                backup, limits,
                probes::{self, Probes},
            },
            revisions, routes as owned_routes,
            stores::{self, entries, transfer},
            triggers::{flows, invocations, queues, schedules},
        },
        state::ControlState,
    },
    functions::stores::entries::VALUE_BYTES,
    problem::Problem,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Mayfly control plane",
        description = "Deploys WebAssembly functions and manages them. Errors are problem details \
                       (RFC 9457); their `type` is stable.",
    ),
    tags(
        (name = "functions", description = "The deployed functions"),
        (name = "apply", description = "All that a project has, at once"),
        (name = "files", description = "Files that functions are given"),
        (name = "routes", description = "Which requests go to which function"),
        (name = "certificates", description = "Certificates of hosts"),
        (name = "invocations", description = "Calls that were enqueued, and what became of them"),
        (name = "schedules", description = "When functions are called, by the calendar"),
        (name = "queues", description = "Messages that wait until a function has taken them"),
        (name = "flows", description = "Functions that are called one after the other"),
        (name = "stores", description = "What functions keep"),
        (name = "secrets", description = "Values that the gateway adds to requests of functions"),
        (name = "tokens", description = "Access to this API"),
        (name = "node", description = "The gateway itself"),
        (name = "probes", description = "The state of the gateway"),
    ),
)]
struct Api;

/// The routes that need the scope of an administrator.
fn administering() -> OpenApiRouter<ControlState> {
    OpenApiRouter::new()
        .routes(routes!(api_tokens::create, api_tokens::list))
        .routes(routes!(api_tokens::revoke))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::put, secrets::delete))
        .routes(routes!(certificates::put, certificates::delete))
        .routes(routes!(backup::make))
}

/// The router of the control plane. Routes are grouped by the scope that they need.
pub(crate) fn control_plane(
    state: ControlState,
    tokens: Tokens,
    probes: &Probes,
) -> prometheus::Result<Router> {
    let problems = layers::control_problems(probes.registry())?;
    let read = OpenApiRouter::new()
        .routes(routes!(functions::list))
        .routes(routes!(functions::show))
        .routes(routes!(revisions::list))
        .routes(routes!(revisions::history))
        .routes(routes!(diff::show))
        .routes(routes!(files::show))
        .routes(routes!(channels::list))
        .routes(routes!(owned_routes::list))
        .routes(routes!(owned_routes::show))
        .routes(routes!(certificates::list))
        .routes(routes!(certificates::show))
        .routes(routes!(invocations::list))
        .routes(routes!(invocations::show))
        .merge(reading_triggers())
        .merge(reading_stores())
        .routes(routes!(logs::list))
        .routes(routes!(limits::show))
        .with_state(state.clone());
    let deploy = OpenApiRouter::new()
        .routes(routes!(functions::deploy, functions::change, functions::delete))
        .routes(routes!(functions::artifact))
        .routes(routes!(functions::artifacts::put, functions::artifacts::show))
        .routes(routes!(files::store))
        .routes(routes!(revisions::activate))
        .routes(routes!(revisions::roll_back))
        .routes(routes!(channels::put, channels::delete))
        .routes(routes!(owned_routes::put, owned_routes::delete))
        .routes(routes!(invocations::purge))
        .routes(routes!(invocations::delete))
        .routes(routes!(invocations::redrive))
        .routes(routes!(invocations::redrive_all))
        .merge(applying())
        .merge(changing_triggers(&state))
        .merge(changing_stores())
        .with_state(state.clone());
    let admin = administering().with_state(state);
    let tokens = Arc::new(tokens);
    let needing = |scope, routes| auth::guarded(&tokens, scope, routes);
    let guarded = needing(Scope::Read, read)
        .merge(needing(Scope::Deploy, deploy))
        .merge(needing(Scope::Admin, admin))
        .layer(DefaultBodyLimit::max(JSON_BYTES));
    // Outside of the check of tokens, which reads the database.
    let guarded = layers::bounded(guarded);
    let about = OpenApiRouter::new()
        .routes(routes!(probes::metrics))
        .routes(routes!(probes::openapi))
        .with_state(probes.clone());
    // A bound of their own: metrics matter most when the API is busy.
    let about =
        if probes.are_open() { about } else { layers::bounded(needing(Scope::Read, about)) };
    let open = OpenApiRouter::new()
        .routes(routes!(probes::healthz))
        .routes(routes!(probes::readyz))
        .with_state(probes.clone());

    let (router, mut api) = OpenApiRouter::with_openapi(Api::openapi())
        .merge(guarded)
        .merge(about)
        .merge(open)
        .split_for_parts();
    api.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    api.components
        .get_or_insert_default()
        .add_security_scheme(auth::SECURITY_SCHEME, SecurityScheme::Http(bearer));
    probes.describe(&api);
    let router = router
        .fallback(async || Problem::resource_not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed());
    Ok(layers::control_plane(router, problems))
}

/// What changes everything at once. Manifests may be larger than other documents.
fn applying() -> OpenApiRouter<ControlState> {
    OpenApiRouter::new().routes(routes!(apply::apply)).layer(DefaultBodyLimit::max(MANIFEST_BYTES))
}

/// What says which stores there are.
fn reading_stores() -> OpenApiRouter<ControlState> {
    OpenApiRouter::new().routes(routes!(stores::list)).routes(routes!(stores::show))
}

/// What changes stores, and reads and writes what is in them.
fn changing_stores() -> OpenApiRouter<ControlState> {
    let value = DefaultBodyLimit::max(VALUE_BYTES);
    OpenApiRouter::new()
        .routes(routes!(stores::put, stores::delete))
        .routes(routes!(entries::list))
        .routes(routes!(transfer::export))
        .routes(routes!(transfer::import))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(entries::show, entries::put, entries::delete))
                .layer(value),
        )
}

/// What reads schedules and queues.
fn reading_triggers() -> OpenApiRouter<ControlState> {
    OpenApiRouter::new()
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::show))
        .routes(routes!(queues::list))
        .routes(routes!(queues::show))
        .routes(routes!(queues::messages))
        .routes(routes!(flows::list))
        .routes(routes!(flows::show))
        .routes(routes!(flows::runs))
        .routes(routes!(flows::run))
}

/// What changes and uses them. Documents of messages may be larger than others.
fn changing_triggers(state: &ControlState) -> OpenApiRouter<ControlState> {
    let messages = DefaultBodyLimit::max(state.published_bytes());
    OpenApiRouter::new()
        .routes(routes!(schedules::put, schedules::change, schedules::delete))
        .routes(routes!(schedules::run))
        .routes(routes!(queues::put, queues::change, queues::delete))
        .routes(routes!(queues::purge))
        .routes(routes!(queues::redrive))
        .routes(routes!(flows::put, flows::delete))
        .routes(routes!(flows::start))
        .merge(OpenApiRouter::new().routes(routes!(queues::publish)).layer(messages))
}
