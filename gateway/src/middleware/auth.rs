//! Who may use the control plane.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{Method, header};

use super::Tokens;
use crate::{
    problem::Problem,
    token::{self, Scope, Verdict},
};

/// Lets a request through only with a token whose scope covers it.
pub(crate) async fn require_token(
    State(Tokens(store)): State<Tokens>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if has_token(request.uri().query().unwrap_or_default()) {
        return Err(Problem::token_in_query());
    }
    let text = request
        .headers()
        .get(header::AUTHORIZATION)
        .ok_or_else(|| Problem::unauthorized("the request has no authorization header"))?
        .to_str()
        .ok()
        .and_then(bearer)
        .ok_or_else(|| Problem::unauthorized("the authorization header is not a bearer token"))?;
    let needed = needed(request.method(), request.uri().path());
    match token::check(&store, text, needed).await? {
        Verdict::Allowed => Ok(next.run(request).await),
        Verdict::Unknown => Err(Problem::unauthorized("the token is not valid")),
        Verdict::Insufficient => Err(Problem::forbidden(needed.as_str())),
    }
}

/// The scope that an operation needs. What is not thought of needs the most.
fn needed(method: &Method, path: &str) -> Scope {
    if !path.starts_with("/v1/functions") {
        Scope::Admin
    } else if method == Method::GET || method == Method::HEAD {
        Scope::Read
    } else {
        Scope::Deploy
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Addresses end up in logs and histories.
fn has_token(query: &str) -> bool {
    query.split('&').any(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        ["token", "access_token"].contains(&name) || value.starts_with("mfy_")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_function_needs_an_administrator() {
        assert_eq!(needed(&Method::GET, "/v1/functions/a"), Scope::Read);
        assert_eq!(needed(&Method::PUT, "/v1/functions/a"), Scope::Deploy);
        assert_eq!(needed(&Method::GET, "/v1/tokens"), Scope::Admin);
        assert_eq!(needed(&Method::GET, "/v2/anything"), Scope::Admin);
    }

    #[test]
    fn tokens_in_queries_are_seen() {
        assert!(has_token("a=b&token=x"));
        assert!(has_token("access_token"));
        assert!(has_token("x=mfy_1_2"));
        assert!(!has_token("limit=3&cursor=tokens"));
    }

    #[test]
    fn the_scheme_of_a_token_is_bearer_in_any_case() {
        assert_eq!(bearer("bearer x"), Some("x"));
        assert_eq!(bearer("Basic x"), None);
    }
}
