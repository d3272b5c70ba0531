//! Which requests may use the control plane?

pub(crate) mod own_hosts;
pub(crate) mod throttle;
pub(crate) mod tokens;

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use http::{HeaderValue, header, request::Parts};
use prometheus::{IntCounterVec, Opts, Registry};
use store::{Store, Tenant};
use utoipa::openapi::{
    Content, Ref, ResponseBuilder,
    path::{Operation, PathItem},
    security::SecurityRequirement,
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    config::ServerSection,
    control::auth::{
        throttle::{AuthThrottle, TooMany},
        tokens::{Scope, TokenCheck},
    },
    functions::deploy::upload::{Actor, TokenId},
    problem::Problem,
    server::Peer,
};

/// The name of the security scheme in the API's description.
pub(crate) const SECURITY_SCHEME: &str = "token";

/// Stands for the id of a token where a local user needs none.
const LOCAL: &str = "local";

/// Checks the tokens of requests.
pub(crate) struct Tokens {
    store: Store,
    tenant: Tenant,
    throttle: AuthThrottle,
    refused: IntCounterVec,
}

impl Tokens {
    pub(crate) fn new(
        store: &Store,
        tenant: &Tenant,
        config: &ServerSection,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let refused = IntCounterVec::new(
            Opts::new(
                "mayfly_unauthorized_total",
                "Requests to the control plane without a token that permits them, by the problem's type",
            ),
            &["type"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        let throttle = AuthThrottle::new(config.auth_failures_per_minute);
        Ok(Self { store: store.clone(), tenant: tenant.clone(), throttle, refused })
    }

    /// The scope and the id of a request's token. Refuses a request unless the scope covers `needed`.
    async fn check(&self, request: &Parts, needed: Scope) -> Result<(Scope, TokenId), Problem> {
        if has_token(request.uri.query().unwrap_or_default()) {
            return Err(Problem::token_in_query());
        }
        let peer = request.extensions.get::<Peer>().expect("each connection has a peer");
        let Some(header) = request.headers.get(header::AUTHORIZATION) else {
            // Who may connect there can read the administrator's token.
            return match peer.local_user {
                Some(_) => Ok((Scope::Admin, TokenId(LOCAL.into()))),
                None => Err(Problem::unauthorized("the request has no authorization header")),
            };
        };
        let text = bearer(header).ok_or_else(|| {
            Problem::unauthorized("the authorization header is not a bearer token")
        })?;
        let peer = peer.addr;
        let too_many = |TooMany(wait)| Problem::too_many_attempts(wait);
        self.throttle.admit(peer.ip(), tokens::id(text), text, Instant::now()).map_err(too_many)?;
        let outcome = tokens::check(&self.store, &self.tenant, text, needed).await?;
        let now = Instant::now();
        let failed = |id| {
            self.throttle.note_failure(peer.ip(), id, now).map_err(too_many)?;
            Err(Problem::unauthorized("the token is not valid"))
        };
        match outcome {
            TokenCheck::UnknownId => failed(None),
            TokenCheck::Wrong => failed(tokens::id(text)),
            TokenCheck::Insufficient => {
                self.throttle.note_success(peer.ip(), text, now);
                Err(Problem::forbidden(needed.as_str()))
            }
            TokenCheck::Allowed(scope) => {
                self.throttle.note_success(peer.ip(), text, now);
                Ok((scope, TokenId(tokens::id(text).unwrap_or_default().into())))
            }
        }
    }
}

/// Answers that every route behind a token can give, for the API's description.
const REFUSALS: [(&str, &str); 8] = [
    ("400", "The request cannot be read, or has a token in its query"),
    ("401", "No valid token"),
    ("403", "The token does not allow it, or a page of another host asks"),
    ("408", "The body is sent too slowly"),
    ("421", "The host is not one of the control plane"),
    ("429", "There were too many failures with this token"),
    ("500", "A defect of the gateway"),
    ("503", "The control plane or its database is busy"),
];
const PROBLEM_JSON: &str = "application/problem+json";

/// The state of the layer in front of a route.
#[derive(Clone)]
struct Guard {
    tokens: Arc<Tokens>,
    needed: Scope,
}

/// Restricts `routes` to tokens with a scope that covers `needed`, and adds that to the API's
/// description: the check and its description have one source.
pub(crate) fn guarded(
    tokens: &Arc<Tokens>,
    needed: Scope,
    mut routes: OpenApiRouter,
) -> OpenApiRouter {
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    for path in routes.get_openapi_mut().paths.paths.values_mut() {
        for operation in operations(path) {
            let scopes = [needed.as_str()];
            operation.security = Some(vec![SecurityRequirement::new(SECURITY_SCHEME, scopes)]);
            for (status, description) in REFUSALS {
                let refusal = ResponseBuilder::new().description(description);
                let refusal = refusal.content(PROBLEM_JSON, problem.clone()).build();
                // A route's own words say more.
                operation.responses.responses.entry(status.into()).or_insert(refusal.into());
            }
        }
    }
    let guard = Guard { tokens: Arc::clone(tokens), needed };
    routes.route_layer(from_fn_with_state(guard, require_token))
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, head, options, trace, .. } = path;
    [get, put, post, delete, patch, head, options, trace].into_iter().flatten()
}

async fn require_token(
    State(Guard { tokens, needed }): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let (scope, token) = tokens.check(&parts, needed).await.inspect_err(|problem| {
        tokens.refused.with_label_values(&[problem.slug()]).inc();
    })?;
    let peer = parts.extensions.get::<Peer>().expect("each connection has a peer");
    let origin = match peer.local_user {
        Some(user) => format!("local user {user}").into(),
        None => peer.addr.ip().to_string().into(),
    };
    parts.extensions.insert(scope);
    parts.extensions.insert(Actor { token, origin });
    Ok(next.run(Request::from_parts(parts, body)).await)
}

fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether a query contains a token. Logs and histories record addresses, which must not contain
/// one.
fn has_token(query: &str) -> bool {
    query.split('&').any(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        ["token", "access_token"].contains(&name) || value.starts_with("mfy_")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case A09.
    #[test]
    fn tokens_in_queries_are_seen() {
        assert!(has_token("a=b&token=x"));
        assert!(has_token("access_token"));
        assert!(has_token("x=mfy_1_2"));
        assert!(!has_token("limit=3&cursor=tokens"));
    }

    #[test]
    fn the_scheme_of_a_token_is_bearer_in_any_case() {
        assert_eq!(bearer(&HeaderValue::from_static("bearer x")), Some("x"));
        assert_eq!(bearer(&HeaderValue::from_static("Basic x")), None);
    }
}
